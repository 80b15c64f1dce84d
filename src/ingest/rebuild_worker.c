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
#include "ingest/topics.h"
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

static PsPosition *ends = NULL; /* of each partition, when the process began */
static int	nends = 0;

/* The start of a partition, NULL when there is none. */
static PsRebuildStart *
find_start(List *starts, int32 topic_no, int32 partition)
{
	ListCell   *cell;

	foreach(cell, starts)
	{
		PsRebuildStart *start = lfirst(cell);

		if (start->topic_no == topic_no && start->partition == partition)
			return start;
	}
	return NULL;
}

/* Says which of a partition's messages cannot be read any more, NULL when all can. */
static char *
describe_missing(const PsStream *stream, const PsRebuildStart *start, const PsLookupPartition *answer)
{
	if (answer == NULL)
		return psprintf("partition %d is not in the topic any more", start->partition);
	if (!ps_stream_reads(stream, start->partition))
		return psprintf("the stream does not read partition %d any more", start->partition);
	if (start->epoch > 0)
		return psprintf("the topic was created anew: what the stream read of partition %d before is gone",
						start->partition);
	if (start->start_offset < answer->low || start->start_offset > answer->high)
		return psprintf("partition %d has offsets " INT64_FORMAT " to " INT64_FORMAT
						", the stream began at " INT64_FORMAT, start->partition, answer->low, answer->high, start->start_offset);
	return NULL;
}

/* Says which of the stream's messages cannot be read any more, NULL when all can. */
static char *
find_missing(const PsWorker *worker, List *starts)
{
	ListCell   *cell;

	foreach(cell, starts)
	{
		const PsRebuildStart *start = lfirst(cell);
		char	   *missing = describe_missing(worker->stream, start, ps_lookup_partition(&worker->looking_up.lookup, start->topic_no, start->partition));

		if (ps_topics_find(worker, start->topic_no) == NULL)
			return psprintf("the stream does not read topic \"%s\" any more", start->topic);
		if (missing != NULL && worker->ntopics > 1)
			return psprintf("topic \"%s\": %s", ps_topics_name(worker, start->topic_no), missing);
		if (missing != NULL)
			return missing;
	}
	return NULL;
}

void
ps_rebuild_check_answer(PsWorker *worker)
{
	PsLookup   *lookup = &worker->looking_up.lookup;

	if (ends != NULL)
		return;					/* it has begun, and goes on with the others */
	for (int t = 0; t < lookup->ntopics && lookup->error[0] == '\0'; t++)
	{
		const PsLookupTopic *topic = &lookup->topics[t];

		if (topic->npartitions == 0 && !topic->missing)
			snprintf(lookup->error, sizeof(lookup->error), "topic \"%s\" does not answer: %s", topic->name, topic->error);
	}
}

/* Whether the rebuild schema has a row for a partition. */
static bool
is_present(List *present, int32 topic_no, int32 partition)
{
	ListCell   *cell;

	foreach(cell, present)
	{
		const PsStoredOffset *row = lfirst(cell);

		if (row->topic_no == topic_no && row->partition == partition)
			return true;
	}
	return false;
}

/* Adds the partitions of a topic that the rebuild schema does not have yet. */
static void
add_partitions(const PsLookupTopic *topic, const PsStream *stream, List *starts, List *present)
{
	for (int p = 0; p < topic->npartitions; p++)
	{
		const PsLookupPartition *answer = &topic->partitions[p];
		PsRebuildStart *known = find_start(starts, topic->topic_no, p);
		PsRebuildStart start = {topic->topic_no, p, 0, answer->low};

		if (is_present(present, topic->topic_no, p) || !ps_stream_reads(stream, p))
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

/* Notes which other streams are rebuilt at the same time. */
static void
note_others(PsWorker *worker)
{
	MemoryContext old;
	ListCell   *cell;
	List	   *rebuilds = ps_rebuilds();

	list_free(worker->rebuilt_beside);
	worker->rebuilt_beside = NIL;
	old = MemoryContextSwitchTo(worker->context);
	foreach(cell, rebuilds)
	{
		const PsRebuild *rebuild = lfirst(cell);

		if (rebuild->stream_id != worker->stream_id)
			worker->rebuilt_beside = lappend_int(worker->rebuilt_beside, rebuild->stream_id);
	}
	MemoryContextSwitchTo(old);
	ps_rebuild_schema_share(worker->rebuilt_beside != NIL);
}

/*
 * Adds partitions; sets *missing to what is missing, if that is not allowed. False:
 * there is no rebuild any more. Needs a transaction.
 */
static bool
rebuild_worker_begin(PsWorker *worker, char **missing)
{
	int			stream_id = worker->stream->stream_id;
	PsRebuild  *rebuild = ps_rebuild_find(stream_id);
	List	   *starts;
	List	   *present;

	if (rebuild == NULL)
		return false;
	note_others(worker);
	starts = ps_rebuild_starts(stream_id);
	present = ps_stream_offsets(stream_id);
	/* a rebuild that has begun treats lost messages as a stream does: by on_offset_lost */
	*missing = rebuild->allow_missing || present != NIL ? NULL : find_missing(worker, starts);
	if (*missing != NULL)
		return true;
	for (int t = 0; t < worker->looking_up.lookup.ntopics; t++)
		add_partitions(&worker->looking_up.lookup.topics[t], worker->stream, starts, present);
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

/* Notes the ends of the partitions. */
static void
note_ends(PsWorker *worker)
{
	const PsLookup *lookup = &worker->looking_up.lookup;

	ends = MemoryContextAlloc(worker->context, Max(ps_lookup_all_partitions(lookup), 1) * sizeof(PsPosition));
	for (int t = 0; t < lookup->ntopics; t++)
		for (int p = 0; p < lookup->topics[t].npartitions; p++)
			ends[nends++] = (PsPosition)
		{
			lookup->topics[t].topic_no, p, lookup->topics[t].partitions[p].high
		};
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
							"Call cancel_rebuild(). Then rebuild(name, allow_missing => true) builds from the messages that are left.");
	}
	if (missing != NULL || !found)
		rebuild_worker_leave(worker);
	if (ends == NULL)
		note_ends(worker);
}

void
ps_rebuild_follow(PsWorker *worker)
{
	if (worker->rebuild_ready || nends == 0 || !ps_life_has_partitions(worker))
		return;
	for (int i = 0; i < nends; i++)
	{
		PsPartition *partition = ps_partition_find(worker, ends[i].topic_no, ends[i].partition);

		if (!ps_stream_reads(worker->stream, ends[i].partition))
			continue;
		if (partition == NULL || partition->offsets.read < ends[i].offset)
			return;
	}
	worker->rebuild_ready = true;
	ps_worker_set_state(worker, PS_STATE_RUNNING, NULL, NULL);
}
