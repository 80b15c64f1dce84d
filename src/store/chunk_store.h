/*
 * chunk_store.h
 *	  Sealed chunks of window samples.
 */
#ifndef PS_CHUNK_STORE_H
#define PS_CHUNK_STORE_H

#include "core/window.h"

extern void ps_chunks_add(PsChunk **chunks, int n);

/*
 * Adds to *value what the sealed chunks of a series hold in [from_at, to_at].
 * Raises when a chunk at an edge has been folded into day buckets. It reads the
 * chunks of the shadow when that is wanted.
 */
extern void ps_chunks_value(bool shadow, const char *customer_id, const char *series,
							TimestampTz from_at, TimestampTz to_at, PsWindowValue *value);

/* Folds so many chunks of a series that end before a moment into day buckets; returns how many samples. */
extern int64 ps_chunks_fold(const char *series, TimestampTz before, int max_chunks);

#endif							/* PS_CHUNK_STORE_H */
