/*
 * chunk_reader.h
 *	  Sealed chunks for functions that read them with the caller's rights.
 */
#ifndef PS_CHUNK_READER_H
#define PS_CHUNK_READER_H

#include "core/day_sums.h"

/* A chunk with its samples; or, once these are folded, with buckets. What it points to lasts until the next chunk. */
typedef struct PsReadChunk
{
	PsChunk		chunk;
	PsDaySum   *buckets;
	int			nbuckets;
} PsReadChunk;

typedef void (*PsChunkTaker) (const PsReadChunk *chunk, void *arg);

/* Gives all chunks of a series that end at a moment or later to a function, in any order. */
extern void ps_chunks_read(const text *customer_id, const char *series, TimestampTz from, PsChunkTaker take, void *arg);

#endif							/* PS_CHUNK_READER_H */
