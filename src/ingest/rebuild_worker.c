/*
 * rebuild_worker.c
 *	  What the worker of a rebuild does in addition. A rebuild reads the topic from
 *	  where its stream began, and then follows it until it is swapped in or cancelled.
 *	  It is ready once it has read to what was the end of the topic when its process
 *	  began. Messages that it holds then, its stream holds too.
 *
 *	  A rebuild is incomplete when the topic no longer has all that the stream read:
 *	  retention removed messages, or the topic was created anew. Its profiles would
 *	  lack these messages, so it stops.
 */
#include "postgres.h"

#include "ingest/rebuild_worker.h"
#include "ingest/life.h"
#include "ingest/partition.h"
#include "ingest/report.h"
#include "ingest/transaction.h"
#include "ingest/worker_state.h"
#include "miscadmin.h"
#include "process/lease.h"
#include "storage/ipc.h"
#include "store/locks.h"
#include "store/rebuild_catalog.h"
#include "store/rebuild_schema.h"
#include "store/xact.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

static int64 *ends = NULL;		/* of each partition, when the process began */
static int	nends = 0;

/* The start of a partition, NULL when there is none. */
static PsRebuildStart *
find_start(List *starts, int partition)
{
	ListCell   *cell;

	foreach(cell, starts)
	{
		if (((PsRebuildStart *) lfirst(cell))->partition == partition)
			return lfirst(cell);
	}
	return NULL;
}

/* Says which of the stream's messages cannot be read any more, NULL when all can. */
static char *
find_missing(const PsLookup *lookup, const PsStream *stream, List *starts)
{
	ListCell   *cell;

	foreach(cell, starts)
	{
		PsRebuildStart *start = lfirst(cell);

		if (start->partition >= lookup->npartitions)
			return psprintf("partition %d is not in the topic any more", start->partition);
		if (!ps_stream_reads(stream, start->partition))
			return psprintf("the stream does not read partition %d any more", start->partition);
		if (start->epoch > 0)
			return psprintf("the topic was created anew: what the stream read of partition %d before is gone",
							start->partition);
		if (start->start_offset < lookup->partitions[start->partition].low ||
			start->start_offset > lookup->partitions[start->partition].high)
			return psprintf("partition %d has offsets " INT64_FORMAT " to " INT64_FORMAT
							", the stream began at " INT64_FORMAT, start->partition,
							lookup->partitions[start->partition].low, lookup->partitions[start->partition].high,
							start->start_offset);
	}
	return NULL;
}

/* Adds the partitions that the rebuild schema does not have yet. */
static void
add_partitions(const PsLookup *lookup, const PsStream *stream, List *starts, List *present)
{
	for (int p = 0; p < lookup->npartitions; p++)
	{
		const PsLookupPartition *answer = &lookup->partitions[p];
		PsRebuildStart *known = find_start(starts, p);
		PsRebuildStart start = {p, 0, answer->low};
		ListCell   *cell;
		bool		found = false;

		foreach(cell, present)
		{
			found |= ((PsStoredOffset *) lfirst(cell))->partition == p;
		}
		if (found || !ps_stream_reads(stream, p))
			continue;
		if (known != NULL)
		{
			start.epoch = known->epoch;
			if (known->start_offset >= answer->low && known->start_offset <= answer->high)
				start.start_offset = known->start_offset;
			else if (known->start_offset < answer->low)
				ps_rebuild_add_gap(stream->stream_id, known, answer->low);
		}
		ps_rebuild_add_partition(stream->stream_id, &start, answer->high);
	}
}

/*
 * Adds partitions; sets *missing to what is missing, if that is not allowed. False:
 * there is no rebuild any more. Needs a transaction.
 */
static bool
rebuild_worker_begin(PsWorker *worker, char **missing)
{
	int			stream_id = worker->stream->stream_id;
	PsRebuild  *rebuild = ps_rebuild_find();
	List	   *starts;
	List	   *present;

	if (rebuild == NULL || rebuild->stream_id != stream_id)
		return false;
	starts = ps_rebuild_starts(stream_id);
	present = ps_stream_offsets(stream_id);
	/* a rebuild that has begun treats lost messages as a stream does: by on_offset_lost */
	*missing = rebuild->allow_missing || present != NIL ? NULL : find_missing(&worker->looking_up.lookup, worker->stream, starts);
	if (*missing != NULL)
		return true;
	add_partitions(&worker->looking_up.lookup, worker->stream, starts, present);
	if (ends == NULL)
		ps_rebuild_note_resumed(stream_id);
	return true;
}

/* Ends the process for good. */
static void
rebuild_worker_leave(PsWorker *worker)
{
	if (ps_report_end())
		ps_consumer_close(worker->consumer);
	proc_exit(0);
}

void
ps_rebuild_begin(PsWorker *worker)
{
	MemoryContext caller = CurrentMemoryContext;
	char	   *missing = NULL;
	bool		found;

	ps_worker_begin(worker);
	ps_lock_tables();
	ps_spi_begin();
	MemoryContextSwitchTo(caller);
	found = rebuild_worker_begin(worker, &missing);
	ps_commit();
	MemoryContextSwitchTo(caller);
	if (missing != NULL)
	{
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("rebuild of stream \"%s\" stops: %s", worker->stream->name, missing)));
		ps_worker_set_state(worker, PS_STATE_INCOMPLETE, missing,
							"Call cancel_rebuild(). Then rebuild(name, allow_missing => true) builds from the messages that are left.", -1);
	}
	if (missing != NULL || !found)
		rebuild_worker_leave(worker);
	if (ends != NULL)
		return;
	nends = worker->looking_up.lookup.npartitions;
	ends = MemoryContextAlloc(worker->context, Max(nends, 1) * sizeof(int64));
	for (int p = 0; p < nends; p++)
		ends[p] = worker->looking_up.lookup.partitions[p].high;
}

void
ps_rebuild_follow(PsWorker *worker)
{
	if (worker->rebuild_ready || nends == 0 || !ps_life_has_partitions(worker))
		return;
	for (int p = 0; p < nends; p++)
	{
		PsPartition *partition = ps_partition_find(worker, p);

		if (!ps_stream_reads(worker->stream, p))
			continue;
		if (partition == NULL || partition->offsets.read < ends[p])
			return;
	}
	worker->rebuild_ready = true;
	ps_worker_set_state(worker, PS_STATE_RUNNING, NULL, NULL, -1);
}
