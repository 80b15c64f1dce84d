/*
 * chunk_value.h
 *	  What sealed chunks add to the value of a metric.
 */
#ifndef PS_CHUNK_VALUE_H
#define PS_CHUNK_VALUE_H

#include "core/window_value.h"

/*
 * Adds the sealed chunks of a series to *value, as far as they lie in its window.
 * They are numbered from 1 to nchunks. Raises when samples that it needs were
 * folded into day buckets. The flag selects the chunks of the rebuild schema.
 */
extern void ps_chunks_value(bool in_rebuild, const char *customer_id, const char *series, int64 nchunks, PsWindowValue *value);

#endif							/* PS_CHUNK_VALUE_H */
