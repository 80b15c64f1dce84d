/*
 * prune.h
 *	  Folding samples older than their window into day buckets.
 */
#ifndef PS_PRUNE_H
#define PS_PRUNE_H

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * Folds the expired samples of at most max_customers customers, and removes those that
 * no metric reads. Returns how many samples these were.
 */
extern int64 ps_prune(TimestampTz now, int max_customers);

/*
 * Folds at most max_chunks sealed chunks of each series, whose samples left their
 * window before a moment (DT_NOBEGIN: folds none). Removes at most so many chunks of
 * each series that no metric reads. Does nothing while a session changes the metrics.
 * Needs SPI.
 */
extern int64 ps_prune_chunks(TimestampTz before, int max_chunks);

#endif							/* PS_PRUNE_H */
