/*
 * lock_budget.c
 *	  How many customers one transaction takes, as each needs a lock. When the
 *	  server's lock table is full, the number is halved at once. It grows again after
 *	  some successes. Each time that it grew too far it waits for twice as many.
 */
#include "postgres.h"

#include "ingest/lock_budget.h"
#include "process/lease.h"

#define MIN_CUSTOMERS 16
#define PATIENCE 100			/* transactions */
#define MAX_PATIENCE 6400

void
ps_lock_budget_reset(PsWorker *worker)
{
	worker->lock_budget.max_customers = ps_apply_max_customers(ps_lease_count_workers());
	worker->lock_budget.successes = 0;
	worker->lock_budget.patience = PATIENCE;
	worker->lock_budget.grown = false;
}

bool
ps_lock_budget_shrink(PsWorker *worker)
{
	if (worker->lock_budget.max_customers <= MIN_CUSTOMERS)
		return false;
	worker->lock_budget.max_customers /= 2;
	worker->lock_budget.successes = 0;
	if (worker->lock_budget.grown)
		worker->lock_budget.patience = Min(worker->lock_budget.patience * 2, MAX_PATIENCE);
	worker->lock_budget.grown = false;
	return true;
}

void
ps_lock_budget_succeeded(PsWorker *worker)
{
	int			most;

	if (++worker->lock_budget.successes < worker->lock_budget.patience)
		return;
	worker->lock_budget.successes = 0;
	most = ps_apply_max_customers(ps_lease_count_workers());
	if (worker->lock_budget.max_customers >= most)
	{
		worker->lock_budget.patience = PATIENCE;
		return;
	}
	worker->lock_budget.max_customers = Min(most, worker->lock_budget.max_customers + worker->lock_budget.max_customers / 4);
	worker->lock_budget.grown = true;
	ereport(LOG,
			(errmsg("stream \"%s\" applies up to %d customers in a transaction again",
					worker->stream->name, worker->lock_budget.max_customers)));
}
