/*
 * lock_budget.c
 *	  How many customers one transaction takes. When the server's lock table is
 *	  full it is halved at once, and grows again slowly; after each time that it
 *	  grew too far it waits twice as long.
 */
#include "postgres.h"

#include "ingest/worker.h"
#include "process/lease.h"

#define MIN_CUSTOMERS 16
#define PATIENCE 100			/* transactions */
#define MAX_PATIENCE 6400

void
ps_lock_budget_reset(PsWorker *worker)
{
	worker->max_customers = ps_apply_max_customers(ps_lease_count_workers());
	worker->budget_successes = 0;
	worker->budget_patience = PATIENCE;
	worker->budget_grown = false;
}

bool
ps_lock_budget_shrink(PsWorker *worker)
{
	if (worker->max_customers <= MIN_CUSTOMERS)
		return false;
	worker->max_customers /= 2;
	worker->budget_successes = 0;
	if (worker->budget_grown)
		worker->budget_patience = Min(worker->budget_patience * 2, MAX_PATIENCE);
	worker->budget_grown = false;
	return true;
}

void
ps_lock_budget_succeeded(PsWorker *worker)
{
	int			most;

	if (++worker->budget_successes < worker->budget_patience)
		return;
	worker->budget_successes = 0;
	most = ps_apply_max_customers(ps_lease_count_workers());
	if (worker->max_customers >= most)
	{
		worker->budget_patience = PATIENCE;
		return;
	}
	worker->max_customers = Min(most, worker->max_customers + worker->max_customers / 4);
	worker->budget_grown = true;
	ereport(LOG,
			(errmsg("stream \"%s\" applies up to %d customers in a transaction again",
					worker->stream->name, worker->max_customers)));
}
