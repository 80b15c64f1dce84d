/*
 * lock_budget.h
 *	  How many customers, and so locks, a transaction may take.
 */
#ifndef PS_LOCK_BUDGET_H
#define PS_LOCK_BUDGET_H

#include "ingest/worker.h"

extern void ps_lock_budget_reset(PsWorker *worker);
extern void ps_lock_budget_succeeded(PsWorker *worker);

/* After the lock table was full: takes fewer. False: it takes the least already. */
extern bool ps_lock_budget_shrink(PsWorker *worker);

#endif							/* PS_LOCK_BUDGET_H */
