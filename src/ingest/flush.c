/*
 * flush.c
 *	  Applies held messages at once, because flush_stream() asks for it. Sessions leave
 *	  their requests in the report of the worker.
 */
#include "postgres.h"

#include "ingest/batch.h"
#include "ingest/failure.h"
#include "ingest/flush.h"
#include "ingest/life.h"
#include "ingest/partition.h"
#include "ingest/report.h"
#include "utils/memutils.h"

/*
 * Whether the worker holds all that was held when it got its partitions: it must have
 * read again what an earlier process had read. A partition that failed may not be read yet.
 */
static bool
holds_all(const PsWorker *worker)
{
	if (!ps_life_has_partitions(worker))
		return false;
	for (int p = 0; p < worker->balance.nleases; p++)
		if (worker->balance.leases[p].held && ps_failure_waits(worker, p))
			return false;
	for (int i = 0; i < worker->reading.npartitions; i++)
	{
		const PsPartition *partition = &worker->reading.partitions[i];

		if (partition->suspect || partition->read_before > partition->offsets.read)
			return false;
	}
	return true;
}

/* Makes due what is asked for; returns how many messages. */
static int64
flush_make_due(PsWorker *worker, const PsFlushes *asked)
{
	int64		released = 0;

	if (asked->all)
		return ps_waiting_flush(worker->waiting, NULL);
	for (int i = 0; i < asked->ncustomers; i++)
		released += ps_waiting_flush(worker->waiting, asked->customers[i]);
	return released;
}

/* Applies everything that is due. */
static void
flush_apply(PsWorker *worker)
{
	PsIntake	nothing = {0};

	for (int left = ps_waiting_due(worker->waiting); left > 0; left -= worker->stream->batch_size)
	{
		ps_batch_apply(worker, &nothing, false);
		MemoryContextSwitchTo(worker->batch_context);
		MemoryContextReset(worker->batch_context);
	}
}

void
ps_flush_serve(PsWorker *worker)
{
	PsFlushes  *flushes = ps_report_flushes();
	PsFlushes	asked;
	int64		released;

	/* without the lock: a request that is missed now is seen in the next turn */
	if (flushes == NULL || flushes->asked == flushes->done || !holds_all(worker))
		return;
	SpinLockAcquire(&flushes->mutex);
	asked = *flushes;
	SpinLockRelease(&flushes->mutex);
	released = flush_make_due(worker, &asked);
	flush_apply(worker);
	SpinLockAcquire(&flushes->mutex);
	flushes->done = asked.asked;
	flushes->released += released;
	flushes->deferred = ps_waiting_deferred(worker->waiting);
	if (flushes->asked == asked.asked)
	{
		flushes->all = false;
		flushes->ncustomers = 0;
		memset(flushes->customers, 0, sizeof(flushes->customers));	/* they may be forgotten later */
	}
	SpinLockRelease(&flushes->mutex);
}
