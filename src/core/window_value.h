/*
 * window_value.h
 *	  The value of a metric, gathered from samples in the order in which they came
 *	  and from the sums of whole chunks.
 */
#ifndef PS_WINDOW_VALUE_H
#define PS_WINDOW_VALUE_H

#include "core/window.h"
#include "lib/hyperloglog.h"

typedef struct PsWindowValue
{
	PsAggregate aggregate;
	TimestampTz from_at;		/* both ends included */
	TimestampTz to_at;
	int64		count;
	Numeric		value;			/* sum, least, greatest or last one; NULL: nothing yet */
	TimestampTz value_at;		/* of the last one */
	uint32	   *hashes;			/* while they are few, then NULL */
	hyperLogLogState distinct;	/* when they are many */
} PsWindowValue;

/* Begins the value of a metric as of a moment. */
extern void ps_window_value_init(PsWindowValue *value, const PsMetric *metric, TimestampTz as_of);

/* Whether a chunk's count, sum, min and max say all there is to know of it. */
extern bool ps_window_value_takes_sums(const PsWindowValue *value);

/* Adds a whole chunk by those. */
extern void ps_window_value_add(PsWindowValue *value, const PsChunk *chunk);

/* Adds those of the packed samples that lie inside. */
extern void ps_window_value_add_samples(PsWindowValue *value, const char *bytes, int len);

/* What it comes to; NULL when there is none: an average, least, greatest or last value of nothing. */
extern Numeric ps_window_value_result(PsWindowValue *value);

#endif							/* PS_WINDOW_VALUE_H */
