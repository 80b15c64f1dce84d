/*
 * window_value.h
 *	  The value of a metric: computed from samples, in the order of their arrival,
 *	  and from the sums of whole chunks.
 */
#ifndef PS_WINDOW_VALUE_H
#define PS_WINDOW_VALUE_H

#include "core/percentile.h"
#include "core/window.h"
#include "lib/hyperloglog.h"

typedef struct PsWindowValue
{
	PsAggregate aggregate;
	TimestampTz from_at;		/* first and last moment of the window */
	TimestampTz to_at;
	TimestampTz oldest;			/* no sample that counts is older; DT_NOEND: none counts */
	TimestampTz upcoming;		/* the first sample behind the window; DT_NOEND: none is known */
	bool		may_rise;		/* of a sum: when a sample leaves, because one may be negative */
	int64		count;
	Numeric		value;			/* sum, minimum, maximum, first or last value so far; NULL: no sample yet */
	Numeric		squares;		/* sum of the squares, for a standard deviation */
	Numeric		fraction;		/* which percentile */
	PsPercentile percentile;
	bool		has_amount;		/* more of the sum: amount / 10^scale */
	int64		amount;
	int			scale;
	TimestampTz value_at;		/* time of the first or last value */
	bool		is_unknown;		/* totals have newer samples, which cannot be taken out */
	uint32	   *hashes;			/* distinct hashes, exact while they are few; NULL: use the estimate */
	hyperLogLogState distinct;	/* estimate for many of them */
} PsWindowValue;

/* Begins the value of a metric as of a moment. memory_kb: what a percentile of many samples may take before it goes to files. */
extern void ps_window_value_init(PsWindowValue *value, const PsMetric *metric, TimestampTz as_of, int memory_kb);

/* Adds a whole chunk by its count, sum, min and max. */
extern void ps_window_value_add(PsWindowValue *value, const PsChunk *chunk);

/* Adds the totals of a lifetime series. */
extern void ps_window_value_add_totals(PsWindowValue *value, const PsSeries *series);

/* Adds those packed samples that lie in the window. */
extern void ps_window_value_add_samples(PsWindowValue *value, const char *bytes, int len);

/* The result of a count or of distinct values. */
extern int64 ps_window_value_count(PsWindowValue *value);

/* The result; NULL for what is no count and no sum of no samples, for a standard deviation of one, and when it is unknown. */
extern Numeric ps_window_value_result(PsWindowValue *value);

#endif							/* PS_WINDOW_VALUE_H */
