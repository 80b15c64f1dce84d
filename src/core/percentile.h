/*
 * percentile.h
 *	  A percentile of numbers, exact: a few in memory, more in a sort that goes to
 *	  temporary files beyond its memory.
 */
#ifndef PS_PERCENTILE_H
#define PS_PERCENTILE_H

#include "utils/numeric.h"

typedef struct PsPercentile
{
	int			memory_kb;		/* of the sort */
	int64		count;
	Numeric    *few;			/* the numbers, as long as they are few */
	struct Tuplesortstate *sort;	/* all of them otherwise */
} PsPercentile;

/* Adds a number, which is the percentile's from now on. */
extern void ps_percentile_add(PsPercentile *percentile, Numeric number);

/* The number at fraction * (count - 1) of the sorted ones, from 0 on; between two of them in proportion. NULL of none. */
extern Numeric ps_percentile_result(PsPercentile *percentile, Numeric fraction);

#endif							/* PS_PERCENTILE_H */
