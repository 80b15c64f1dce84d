/*
 * balance.h
 *	  How a stream's workers share its partitions.
 */
#ifndef PS_BALANCE_H
#define PS_BALANCE_H

#include "ingest/worker.h"

/* Takes and gives back leases, so that each worker has its share. A change makes the worker look up again. */
extern void ps_balance(PsWorker *worker);

/* Notes how many partitions the topic has. */
extern void ps_balance_resize(PsWorker *worker, int npartitions);

/* Whether this worker has the lease of a partition, or gets it now. */
extern bool ps_balance_hold(PsWorker *worker, int partition);
extern void ps_balance_release(PsWorker *worker, int partition);

#endif							/* PS_BALANCE_H */
