/*
 * histogram.c
 *	  Percentiles of a histogram of durations.
 */
#include "postgres.h"

#include <math.h>

#include "core/histogram.h"

/* The upper end of a bucket; of the last one, which has none, its lower end. */
static int64
upper_end(int bucket)
{
	int			step = bucket - 1;
	int			bits = PS_HISTOGRAM_FIRST_BITS + (step >> PS_HISTOGRAM_STEP_BITS);
	int64		steps = 1 << PS_HISTOGRAM_STEP_BITS;

	if (bucket == 0)
		return INT64CONST(1) << PS_HISTOGRAM_FIRST_BITS;
	if (bucket == PS_HISTOGRAM_BUCKETS - 1)
		return INT64CONST(1) << PS_HISTOGRAM_LAST_BITS;
	return (steps + step % steps + 1) << (bits - PS_HISTOGRAM_STEP_BITS);
}

int64
ps_histogram_percentile(const int64 *counts, double share)
{
	int64		total = 0;
	int64		rank;

	for (int i = 0; i < PS_HISTOGRAM_BUCKETS; i++)
		total += counts[i];
	if (total == 0)
		return -1;
	rank = Max(1, (int64) ceil(share * total));
	for (int i = 0; i < PS_HISTOGRAM_BUCKETS; i++)
		if ((rank -= counts[i]) <= 0)
			return upper_end(i);
	return upper_end(PS_HISTOGRAM_BUCKETS - 1);
}
