/*
 * balance.c
 *	  How the workers of a stream share its partitions out: each takes leases of
 *	  free ones up to its share, and gives back what is above it. No worker tells
 *	  another anything; a share follows from who runs and how many partitions there
 *	  are, and a lease is free at once when its holder is gone.
 */
#include "postgres.h"

#include "ingest/worker.h"
#include "process/lease.h"
#include "utils/memutils.h"

#define BALANCE_INTERVAL_MS 500

bool
ps_balance_hold(PsWorker *worker, int partition)
{
	return (partition < worker->nleases && worker->leases[partition].held) ||
		ps_lease_take(worker->stream->stream_id, partition);
}

void
ps_balance_release(PsWorker *worker, int partition)
{
	ps_lease_release(worker->stream->stream_id, partition);
	if (partition < worker->nleases)
		worker->leases[partition].held = false;
}

void
ps_balance_resize(PsWorker *worker, int npartitions)
{
	PsLease    *leases;

	if (npartitions == worker->nleases)
		return;
	leases = MemoryContextAllocZero(worker->context, Max(npartitions, 1) * sizeof(PsLease));
	for (int p = 0; p < worker->nleases; p++)
	{
		if (p < npartitions)
			leases[p] = worker->leases[p];
		else if (worker->leases[p].held)
			ps_lease_release(worker->stream->stream_id, p);
	}
	if (worker->leases != NULL)
		pfree(worker->leases);
	worker->leases = leases;
	worker->nleases = npartitions;
}

/* How many partitions are this worker's when all that run have as many as the others, or one more. */
static int
balance_share(PsWorker *worker)
{
	int			readable = 0;
	int			running = 0;
	int			rank = 0;

	for (int p = 0; p < worker->nleases; p++)
		readable += worker->leases[p].readable;
	for (int number = 0; number < worker->stream->workers; number++)
	{
		if (number == worker->number)
			rank = running++;
		else if (ps_lease_has_worker(worker->stream->stream_id, number))
			running++;
	}
	running = Max(running, 1);
	return readable / running + (rank < readable % running);
}

void
ps_balance(PsWorker *worker)
{
	PsMoment	now = ps_clock_now();
	bool		changed = false;
	int			surplus;

	/* an answer that is under way must find what was ours when it was asked for */
	if (now < worker->next_balance || worker->lookup.running)
		return;
	worker->next_balance = ps_moment_plus(now, BALANCE_INTERVAL_MS);
	surplus = -balance_share(worker);
	for (int p = 0; p < worker->nleases; p++)
		surplus += worker->leases[p].held && worker->leases[p].readable;
	for (int p = worker->nleases - 1; p >= 0; p--)
		if (worker->leases[p].held && (surplus > 0 || !worker->leases[p].readable))
		{
			surplus -= worker->leases[p].readable;
			ps_balance_release(worker, p);
			changed = true;
		}
	for (int p = 0; p < worker->nleases && surplus < 0; p++)
		if (worker->leases[p].readable && !worker->leases[p].held &&
			ps_lease_take(worker->stream->stream_id, p))
		{
			worker->leases[p].held = true;
			surplus++;
			changed = true;
		}
	if (changed)
	{
		ps_lock_budget_reset(worker);
		worker->reassign = true;
		worker->next_lookup = 0;
	}
}
