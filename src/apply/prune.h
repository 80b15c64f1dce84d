/*
 * prune.h
 *	  Folding samples older than their window into day buckets.
 */
#ifndef PS_PRUNE_H
#define PS_PRUNE_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Folds at most max_customers customers' expired samples, and removes those that no metric reads; returns how many samples. */
extern int64 ps_prune(TimestampTz now, int max_customers);

/*
 * Folds at most so many sealed chunks of each series whose samples left their window
 * before a moment (DT_NOBEGIN: none), and removes so many of each that no metric
 * reads; needs SPI. Does nothing while somebody changes the metrics.
 */
extern int64 ps_prune_chunks(TimestampTz before, int max_chunks);

#endif							/* PS_PRUNE_H */
