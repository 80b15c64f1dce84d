/*
 * prune.h
 *	  Folding samples older than their window into day buckets.
 */
#ifndef PS_PRUNE_H
#define PS_PRUNE_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Folds at most max_customers customers' expired samples; returns how many samples. */
extern int64 ps_prune(TimestampTz now, int max_customers);

/* Folds at most so many sealed chunks of each series whose samples left their window before a moment; needs SPI. */
extern int64 ps_prune_chunks(TimestampTz before, int max_chunks);

#endif							/* PS_PRUNE_H */
