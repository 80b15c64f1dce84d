/*
 * balance.c
 *	  How the workers of a stream share its partitions. Each worker takes leases of
 *	  free partitions up to its share, and gives back what is above it.
 *
 *	  Workers send each other no messages. A worker computes its share from the
 *	  workers that run and the number of partitions. A lease is a lock of a session,
 *	  so it is free at once when its worker is gone.
 */
#include "postgres.h"

#include "ingest/balance.h"
#include "ingest/life.h"
#include "ingest/lock_budget.h"
#include "process/lease.h"
#include "utils/memutils.h"

#define BALANCE_INTERVAL_MS 500

bool
ps_balance_hold(PsWorker *worker, int partition)
{
	return (partition < worker->balance.nleases && worker->balance.leases[partition].held) ||
		ps_lease_take(worker->stream->stream_id, partition);
}

void
ps_balance_release(PsWorker *worker, int partition)
{
	ps_lease_release(worker->stream->stream_id, partition);
	if (partition < worker->balance.nleases)
		worker->balance.leases[partition].held = false;
}

void
ps_balance_resize(PsWorker *worker, int npartitions)
{
	PsLease    *leases;

	if (npartitions == worker->balance.nleases)
		return;
	leases = MemoryContextAllocZero(worker->context, Max(npartitions, 1) * sizeof(PsLease));
	for (int p = 0; p < worker->balance.nleases; p++)
	{
		if (p < npartitions)
			leases[p] = worker->balance.leases[p];
		else if (worker->balance.leases[p].held)
			ps_lease_release(worker->stream->stream_id, p);
	}
	if (worker->balance.leases != NULL)
		pfree(worker->balance.leases);
	worker->balance.leases = leases;
	worker->balance.nleases = npartitions;
}

/* This worker's share: all workers that run have equally many partitions, or one more. */
static int
balance_share(PsWorker *worker)
{
	int			readable = 0;
	int			running = 0;
	int			rank = 0;

	for (int p = 0; p < worker->balance.nleases; p++)
		readable += worker->balance.leases[p].readable;
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
	int			share;
	int			surplus;

	/* leases must not move between a question to the broker and its answer */
	if (now < worker->balance.next || worker->looking_up.lookup.running)
		return;
	worker->balance.next = ps_moment_plus(now, BALANCE_INTERVAL_MS);
	share = balance_share(worker);
	surplus = -share;
	for (int p = 0; p < worker->balance.nleases; p++)
		surplus += worker->balance.leases[p].held && worker->balance.leases[p].readable;
	for (int p = worker->balance.nleases - 1; p >= 0; p--)
		if (worker->balance.leases[p].held && (surplus > 0 || !worker->balance.leases[p].readable))
		{
			surplus -= worker->balance.leases[p].readable;
			ps_balance_release(worker, p);
			changed = true;
		}
	for (int p = 0; p < worker->balance.nleases && surplus < 0; p++)
		if (worker->balance.leases[p].readable && !worker->balance.leases[p].held &&
			ps_lease_take(worker->stream->stream_id, p))
		{
			worker->balance.leases[p].held = true;
			surplus++;
			changed = true;
		}
	if (changed)
	{
		ereport(DEBUG1, (errmsg_internal("worker %d of stream \"%s\" has %d of %d leases after it changed its share",
										 worker->number, worker->stream->name, share + surplus, worker->balance.nleases)));
		ps_lock_budget_reset(worker);
		ps_life_look_up(worker);
		worker->looking_up.next = 0;
	}
}
