/*
 * segment_counts.h
 *	  How many customers each segment had, by day.
 */
#ifndef PS_SEGMENT_COUNTS_H
#define PS_SEGMENT_COUNTS_H

#include "postgres.h"

/* Whether a day of UTC has begun since the last count, or since the first stream was made. */
extern bool ps_segment_counts_due(void);

/* Counts, with the snapshot of the transaction, in place of what this day has; removes rows older than profile_stream.segment_count_retention. */
extern void ps_segment_counts_write(void);

#endif							/* PS_SEGMENT_COUNTS_H */
