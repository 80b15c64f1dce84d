/*
 * keyed_hash.h
 *	  A hash of bytes that strangers choose. Who does not know the key cannot make
 *	  bytes whose hashes are equal, which hash_bytes() with a known seed invites to.
 */
#ifndef PS_KEYED_HASH_H
#define PS_KEYED_HASH_H

#include "postgres.h"

typedef struct PsHashKey
{
	uint64		k[2];
} PsHashKey;

/* Of tables in memory: random, made when the library is loaded. */
extern PsHashKey ps_table_key;

/* SipHash-1-3 */
extern uint64 ps_keyed_hash(const PsHashKey *key, const char *bytes, int len);

/* 32 bits of it, for a table in memory. */
static inline uint32
ps_table_hash(const char *bytes, int len)
{
	return (uint32) ps_keyed_hash(&ps_table_key, bytes, len);
}

#endif							/* PS_KEYED_HASH_H */
