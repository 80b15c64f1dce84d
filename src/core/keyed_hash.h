/*
 * keyed_hash.h
 *	  A hash for bytes that strangers choose. With hash_bytes(), whose seed is known,
 *	  they could make many bytes with the same hash and so slow down a table;
 *	  without the key of this one they cannot.
 */
#ifndef PS_KEYED_HASH_H
#define PS_KEYED_HASH_H

#include "postgres.h"

typedef struct PsHashKey
{
	uint64		k[2];
} PsHashKey;

/* The key for tables in memory; it is random, and made when the library is loaded. */
extern PsHashKey ps_table_key;

/* SipHash-1-3 */
extern uint64 ps_keyed_hash(const PsHashKey *key, const char *bytes, int len);

/* SipHash-1-3 with 128 bits */
extern void ps_keyed_hash_wide(const PsHashKey *key, const char *bytes, int len, uint64 hash[2]);

/* The hash for a table in memory. */
static inline uint32
ps_table_hash(const char *bytes, int len)
{
	return (uint32) ps_keyed_hash(&ps_table_key, bytes, len);
}

#endif							/* PS_KEYED_HASH_H */
