/*
 * totals.h
 *	  What is kept of the samples of a lifetime series once they are folded: sums,
 *	  extremes, and the first and last sample. Their size does not grow.
 */
#ifndef PS_TOTALS_H
#define PS_TOTALS_H

#include "core/window.h"

typedef struct PsTotals
{
	int64		count;			/* 0: the other fields are not set */
	TimestampTz from_at;		/* time of the first sample */
	TimestampTz to_at;			/* and of the last one */
	Numeric		sum;
	Numeric		min;
	Numeric		max;
	Numeric		first;
	Numeric		last;
} PsTotals;

/* Moves the older half of a series' open samples into its totals. */
extern void ps_totals_fold(PsSeries *series);

/* Reads the totals of a series; raises when the bytes are damaged. */
extern void ps_totals_read(const PsSeries *series, PsTotals *totals);

#endif							/* PS_TOTALS_H */
