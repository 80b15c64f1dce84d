/*
 * lag.h
 *	  How long the messages of a worker's partitions wait.
 */
#ifndef PS_LAG_H
#define PS_LAG_H

#include "ingest/worker.h"

/* Each turn: reports now and then how long the oldest message of each partition has waited. */
extern void ps_lag_report(PsWorker *worker);

#endif							/* PS_LAG_H */
