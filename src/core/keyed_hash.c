/*
 * keyed_hash.c
 *	  SipHash-1-3 (Aumasson and Bernstein, SipHash: a fast short-input PRF, 2012),
 *	  with as few rounds as Rust and Python use. All tables and indexes that hash
 *	  bytes of messages use it.
 *
 *	  Words are read in the byte order of the machine: the hashes are stored only in
 *	  data files, which have that byte order too.
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

uint64
ps_keyed_hash(const PsHashKey *key, const char *bytes, int len)
{
	uint64		v[4] = {
		key->k[0] ^ UINT64CONST(0x736f6d6570736575), key->k[1] ^ UINT64CONST(0x646f72616e646f6d),
		key->k[0] ^ UINT64CONST(0x6c7967656e657261), key->k[1] ^ UINT64CONST(0x7465646279746573)
	};
	uint64		last = (uint64) len << 56;
	uint64		word;

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
	v[2] ^= 0xff;
	ROUND(v);
	ROUND(v);
	ROUND(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
