/*
 * chunk_store.h
 *	  Sealed chunks of window samples.
 */
#ifndef PS_CHUNK_STORE_H
#define PS_CHUNK_STORE_H

#include "core/window.h"

/* Adds a list of chunks, with their tiles. The caller holds the customers' locks. */
extern void ps_chunks_add(const PsChunk *first);

/* Folds at most max_chunks chunks that end before a moment into day buckets. Returns how many samples they had. */
extern int64 ps_chunks_fold(const char *series, TimestampTz before, int max_chunks);

/* The next series, after this one or from the first (NULL), that has chunks with samples; NULL when there is none. */
extern char *ps_chunks_next_series(const char *series);

/* Deletes at most max_chunks chunks of a series that have samples. Returns how many samples they had. */
extern int64 ps_chunks_forget(const char *series, int max_chunks);

/* Deletes all chunks of series that no metric reads. Returns how many samples they stood for. */
extern int64 ps_chunks_forget_others(const PsMetrics *metrics);

/* Whether samples of a series were folded into day buckets. */
extern bool ps_chunks_are_folded(const char *series);

#endif							/* PS_CHUNK_STORE_H */
