/*
 * histogram.h
 *	  Counts of durations in fixed buckets, from which percentiles are read. A bucket is
 *	  at most an eighth as wide as its values, and a percentile is the upper end of its
 *	  bucket: up to 12.5 % too much, and never too little. Durations below about a
 *	  millisecond share the first bucket, and those above three days the last.
 */
#ifndef PS_HISTOGRAM_H
#define PS_HISTOGRAM_H

#include "postgres.h"

#include "port/pg_bitutils.h"

#define PS_HISTOGRAM_FIRST_BITS 10	/* 1,024 microseconds */
#define PS_HISTOGRAM_LAST_BITS 38	/* 76 hours */
#define PS_HISTOGRAM_STEP_BITS 3	/* 8 buckets for each doubling */
#define PS_HISTOGRAM_BUCKETS (2 + ((PS_HISTOGRAM_LAST_BITS - PS_HISTOGRAM_FIRST_BITS) << PS_HISTOGRAM_STEP_BITS))

/* The bucket of a duration in microseconds. */
static inline int
ps_histogram_bucket(int64 us)
{
	int			bits;

	if (us < (INT64CONST(1) << PS_HISTOGRAM_FIRST_BITS))
		return 0;
	if (us >= (INT64CONST(1) << PS_HISTOGRAM_LAST_BITS))
		return PS_HISTOGRAM_BUCKETS - 1;
	bits = pg_leftmost_one_pos64(us);
	return 1 + ((bits - PS_HISTOGRAM_FIRST_BITS) << PS_HISTOGRAM_STEP_BITS) +
		(int) ((us >> (bits - PS_HISTOGRAM_STEP_BITS)) & ((1 << PS_HISTOGRAM_STEP_BITS) - 1));
}

/* The duration in microseconds that a share of all counted ones does not exceed; -1: none was counted. */
extern int64 ps_histogram_percentile(const int64 *counts, double share);

#endif							/* PS_HISTOGRAM_H */
