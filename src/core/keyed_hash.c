/*
 * keyed_hash.c
 *	  SipHash-1-3 (Aumasson and Bernstein, SipHash: a fast short-input PRF, 2012),
 *	  with as few rounds as Rust and Python use, and its form with 128 bits. All tables
 *	  and indexes that hash bytes of messages use it.
 *
 *	  Words are read in the byte order of the machine, because hashes are stored
 *	  beside other values that have it: a dump of profiles is for machines of one
 *	  byte order.
 */
#include "postgres.h"

#include "core/keyed_hash.h"

PsHashKey	ps_table_key;

#define ROTATE(x, n) (((x) << (n)) | ((x) >> (64 - (n))))

#define ROUND(v) \
	do { \
		v[0] += v[1]; v[1] = ROTATE(v[1], 13) ^ v[0]; v[0] = ROTATE(v[0], 32); \
		v[2] += v[3]; v[3] = ROTATE(v[3], 16) ^ v[2]; \
		v[0] += v[3]; v[3] = ROTATE(v[3], 21) ^ v[0]; \
		v[2] += v[1]; v[1] = ROTATE(v[1], 17) ^ v[2]; v[2] = ROTATE(v[2], 32); \
	} while (0)

/* Mixes the bytes into the state, up to the last rounds. */
static inline void
keyed_hash_absorb(uint64 v[4], const PsHashKey *key, const char *bytes, int len)
{
	uint64		last = (uint64) len << 56;
	uint64		word;

	v[0] = key->k[0] ^ UINT64CONST(0x736f6d6570736575);
	v[1] ^= key->k[1] ^ UINT64CONST(0x646f72616e646f6d);
	v[2] = key->k[0] ^ UINT64CONST(0x6c7967656e657261);
	v[3] = key->k[1] ^ UINT64CONST(0x7465646279746573);
	for (; len >= 8; bytes += 8, len -= 8)
	{
		memcpy(&word, bytes, 8);
		v[3] ^= word;
		ROUND(v);
		v[0] ^= word;
	}
	for (int i = 0; i < len; i++)
		last |= (uint64) (unsigned char) bytes[i] << (8 * i);
	v[3] ^= last;
	ROUND(v);
	v[0] ^= last;
}

/* The last rounds; returns a word of the hash. */
static inline uint64
keyed_hash_squeeze(uint64 v[4])
{
	ROUND(v);
	ROUND(v);
	ROUND(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64
ps_keyed_hash(const PsHashKey *key, const char *bytes, int len)
{
	uint64		v[4] = {0};

	keyed_hash_absorb(v, key, bytes, len);
	v[2] ^= 0xff;
	return keyed_hash_squeeze(v);
}

void
ps_keyed_hash_wide(const PsHashKey *key, const char *bytes, int len, uint64 hash[2])
{
	uint64		v[4] = {0, 0xee};

	keyed_hash_absorb(v, key, bytes, len);
	v[2] ^= 0xee;
	hash[0] = keyed_hash_squeeze(v);
	v[1] ^= 0xdd;
	hash[1] = keyed_hash_squeeze(v);
}
