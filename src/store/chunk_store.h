/*
 * chunk_store.h
 *	  Sealed chunks of window samples.
 */
#ifndef PS_CHUNK_STORE_H
#define PS_CHUNK_STORE_H

#include "core/window_value.h"

/* Adds a list of chunks. */
extern void ps_chunks_add(PsChunk *first);

/*
 * Adds to *value what the sealed chunks of a series hold inside, in the order in
 * which they were sealed. Raises when samples that it needs have been folded into
 * day buckets. It reads the chunks of the shadow when that is wanted.
 */
extern void ps_chunks_value(bool shadow, const char *customer_id, const char *series, PsWindowValue *value);

/* Folds so many chunks of a series that end before a moment into day buckets; returns how many samples. */
extern int64 ps_chunks_fold(const char *series, TimestampTz before, int max_chunks);

/* The next series after that one (NULL: the first) of which there are chunks with samples; NULL when there is none. */
extern char *ps_chunks_next_series(const char *series);

/* Deletes so many chunks of a series, of those with samples; returns how many samples that were. */
extern int64 ps_chunks_forget(const char *series, int max_chunks);

/* Deletes all chunks of series other than these; returns how many samples they stood for. */
extern int64 ps_chunks_forget_others(const PsMetrics *metrics);

/* Whether samples of a series were folded. */
extern bool ps_chunks_are_folded(const char *series);

#endif							/* PS_CHUNK_STORE_H */
