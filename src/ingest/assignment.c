/*
 * assignment.c
 *	  Which partitions the worker reads, and from where: from the stored offset, if
 *	  the topic still has it. The start offset is stored before the first read. So
 *	  'latest' means the moment when the stream began, whatever crashes later.
 */
#include "postgres.h"

#include "access/xact.h"
#include "ingest/align.h"
#include "ingest/assignment.h"
#include "ingest/balance.h"
#include "ingest/failure.h"
#include "ingest/life.h"
#include "ingest/progress.h"
#include "ingest/rebuild_worker.h"
#include "ingest/report.h"
#include "ingest/shard_progress.h"
#include "ingest/shard_topic.h"
#include "ingest/topic_identity.h"
#include "ingest/topics.h"
#include "ingest/transaction.h"
#include "process/lease.h"
#include "store/locks.h"
#include "store/rebuild_schema.h"
#include "store/xact.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

int64
ps_assignment_start_ms(PsStream *stream)
{
	TimestampTz at;

	if (strcmp(stream->start_from, "earliest") == 0 || strcmp(stream->start_from, "latest") == 0)
		return -1;
	ps_transaction_start();
	at = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(stream->start_from),
												 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	CommitTransactionCommand();
	return ps_kafka_time(at);
}

/* Where a partition that has no row begins. */
static int64
start_offset(PsWorker *worker, const PsLookupPartition *answer, bool first_start)
{
	if (!first_start || strcmp(worker->stream->start_from, "earliest") == 0)
		return answer->low;
	if (strcmp(worker->stream->start_from, "latest") == 0 || answer->at_time < 0)
		return answer->high;
	return answer->at_time;
}

/*
 * Moves a stored offset to a target. Marks of messages behind the target stay, if these
 * are of the same topic. Returns how many of them are read and not finished.
 */
static int64
move_stored(PsStoredOffset *stored, int64 target, bool other_topic)
{
	PsOffsetSet offsets;
	bool		within = !other_topic && target > stored->next_offset && target < stored->read_offset;

	ps_offset_set_init(&offsets, within ? stored->next_offset : target, within ? stored->finished : NULL,
					   CurrentMemoryContext);
	ps_offset_set_read_to(&offsets, target);
	stored->next_offset = ps_offset_set_candidate(&offsets);
	stored->finished = ps_offset_set_encode(&offsets, stored->next_offset);
	if (!within)
		stored->read_offset = target;
	return ps_offset_set_unfinished(&offsets, stored->read_offset);
}

/* A partition in words; the topic is named where the stream has several. */
static char *
partition_text(const PsWorker *worker, const PsStoredOffset *row)
{
	if (worker->ntopics > 1)
		return psprintf("partition %d of topic \"%s\"", row->partition, ps_topics_name(worker, row->topic_no));
	return psprintf("partition %d", row->partition);
}

/* Says why reading cannot go on at a stored offset. */
static char *
describe_loss(const PsStoredOffset *stored, int64 low, int64 high)
{
	if (high < 0)
		return psprintf("offset " INT64_FORMAT " is not in the topic, because the topic does not have the partition any more",
						stored->next_offset);
	if (stored->next_offset < low || stored->next_offset > high)
		return psprintf("offset " INT64_FORMAT " is not in the topic, which has " INT64_FORMAT " to " INT64_FORMAT,
						stored->next_offset, low, high);
	return psprintf("the topic was created anew: the message of offset " INT64_FORMAT " is not the one that was read",
					stored->check.offset);
}

/* What a worker finds lost in a partition: the offset, and whether the topic is another one. */
static bool
find_loss(PsWorker *worker, const PsStoredOffset *row, const PsLookupPartition *answer, PsStoredOffset *lost, bool *other)
{
	PsShardLoss loss;

	*lost = *row;
	if (worker->shards == NULL)
	{
		*other = ps_topic_identity_is_other(worker, row, answer->low, answer->high);
		return row->lost || row->next_offset < answer->low || *other;
	}
	if (!ps_shard_topic_find_loss(worker, row, answer, &loss))
		return false;
	lost->next_offset = loss.first.next_offset;
	lost->check = loss.first.check;
	*other = loss.recreated;
	return true;
}

/* Stops reading a partition. */
static void
offset_stop(PsWorker *worker, PsStoredOffset *stored, const char *error, bool new_epoch)
{
	ereport(WARNING,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("stream \"%s\" stops reading %s: %s", worker->stream->name, partition_text(worker, stored), error),
			 errhint("Retention removed messages, or the topic was created anew. To go on with the messages that are left, call alter_stream() with on_offset_lost => 'earliest', or pause the stream and call seek_stream().")));
	ps_stream_lose_partition(worker->stream->stream_id, stored, error, new_epoch);
}

/*
 * Handles an offset that the topic does not have, or that is of another topic, as
 * on_offset_lost says. Returns whether reading goes on.
 */
static bool
offset_lost(PsWorker *worker, PsStoredOffset *stored, const PsLookupPartition *answer, const PsStoredOffset *lost, bool other)
{
	PsStream   *stream = worker->stream;
	char	   *error = describe_loss(lost, answer->low, answer->high);
	PsJump		jump = {
		.expected_offset = stored->next_offset,.from_offset = lost->next_offset,
		.to_offset = strcmp(stream->on_offset_lost, "earliest") == 0 ? answer->low : answer->high
	};

	/* an offset that was lost before has counted its epoch then, and has no fingerprint any more */
	jump.new_epoch = other && (!stored->lost || stored->check.offset >= 0);
	jump.reason = other ? "topic_recreated" : "offset_lost";
	if (strcmp(stream->on_offset_lost, "stop") == 0)
	{
		offset_stop(worker, stored, error, jump.new_epoch);
		return false;
	}
	ereport(WARNING,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("stream \"%s\" goes on at offset " INT64_FORMAT " of %s: %s",
					stream->name, jump.to_offset, partition_text(worker, stored), error)));
	if (worker->shards != NULL)
	{
		ps_shard_topic_jump(worker, stored, answer, jump.to_offset);
		ps_stored_offset_move(stored, ps_shard_progress_first(worker, stored));
	}
	else
		jump.held = move_stored(stored, jump.to_offset, other);
	ps_stream_jump(stream->stream_id, stored, &jump);
	if (jump.new_epoch)
	{
		stored->epoch++;
		stored->check.offset = -1;
	}
	stored->commits++;
	return true;
}

/* The row of a partition, NULL when it has none. */
static PsStoredOffset *
assignment_find_row(List *rows, int32 topic_no, int32 partition)
{
	ListCell   *cell;

	foreach(cell, rows)
	{
		PsStoredOffset *row = lfirst(cell);

		if (row->topic_no == topic_no && row->partition == partition)
			return row;
	}
	return NULL;
}

/* Whether any partition of a topic has a row. */
static bool
has_rows(List *rows, int32 topic_no)
{
	ListCell   *cell;

	foreach(cell, rows)
		if (((PsStoredOffset *) lfirst(cell))->topic_no == topic_no)
		return true;
	return false;
}

/*
 * Stores where the partitions of a topic begin that have no row yet. A topic that came
 * while the stream looked for topics, and partitions that come after the first rows, are
 * new: they are read from their beginning. Returns whether there are any.
 */
static bool
add_rows(PsWorker *worker, const PsLookupTopic *topic, List *rows)
{
	const PsTopic *ours = ps_topics_find(worker, topic->topic_no);
	bool		first_start = !has_rows(rows, topic->topic_no) && !(ours != NULL && ours->is_new);
	bool		added = false;

	for (int p = 0; p < topic->npartitions; p++)
	{
		PsPosition	start = {topic->topic_no, p};

		if (!ps_stream_reads(worker->stream, p) || assignment_find_row(rows, topic->topic_no, p) != NULL)
			continue;
		start.offset = start_offset(worker, &topic->partitions[p], first_start);
		ps_stream_add_partition(worker->stream->stream_id, &start);
		added = true;
	}
	return added;
}

/* Marks partitions that their topic does not have any more, unless another worker may still read them. */
static void
lose_vanished(PsWorker *worker, List *rows)
{
	ListCell   *cell;

	foreach(cell, rows)
	{
		PsStoredOffset *row = lfirst(cell);
		const PsLookupTopic *topic = ps_lookup_topic(&worker->looking_up.lookup, row->topic_no);

		/* a topic that is missing or does not answer may come back */
		if (topic == NULL || topic->npartitions == 0 || row->partition < topic->npartitions || row->lost)
			continue;
		if (ps_balance_hold(worker, row->partition))
		{
			offset_stop(worker, row, describe_loss(row, -1, -1), true);
			ps_balance_release(worker, row->partition);
		}
	}
}

/* Whether a partition can be read from its row; the row has not moved since the broker was asked. */
static bool
is_readable(PsWorker *worker, PsStoredOffset *row, const PsLookupPartition *answer)
{
	PsStoredOffset lost;
	bool		other;

	return !find_loss(worker, row, answer, &lost, &other) || offset_lost(worker, row, answer, &lost, other);
}

/* Takes one row and the broker's answer; whether this worker reads the partition from the row. */
static bool
reconcile_row(PsWorker *worker, PsStoredOffset *row, bool looking_up)
{
	const PsLookupPartition *answer = ps_lookup_partition(&worker->looking_up.lookup, row->topic_no, row->partition);
	bool		stays_lost = row->lost && strcmp(worker->stream->on_offset_lost, "stop") == 0;
	PsPosition	end = {row->topic_no, row->partition};
	PsLease    *lease;

	if (answer == NULL || !ps_stream_reads(worker->stream, row->partition))
		return false;
	lease = &worker->balance.leases[row->partition];
	if (lease->held && looking_up && !stays_lost)
		ps_shard_progress_align(worker, row, answer->high);
	if (lease->held)
	{
		/* no commit stores the end while an open transaction of Kafka holds events back: it is stored here */
		end.offset = looking_up ? answer->high :
			Max(answer->high, ps_consumer_end_offset(worker->consumer, row->topic_no, row->partition));
		ps_stream_note_end(worker->stream->stream_id, &end);
	}
	if (stays_lost || (looking_up && lease->held && !is_readable(worker, row, answer)))
		return false;
	lease->readable = true;
	return lease->held;
}

/* Finds where the shards begin that have taken nothing yet, in all partitions: afterwards each new one is read from its beginning. */
static void
begin_shards(PsWorker *worker, List *stored)
{
	ListCell   *cell;

	foreach(cell, stored)
	{
		PsStoredOffset *row = lfirst(cell);
		const PsLookupPartition *answer = ps_lookup_partition(&worker->looking_up.lookup, row->topic_no, row->partition);

		if (answer == NULL)
			continue;
		ps_shard_progress_begin(worker, row, answer->low);
		/* a new row may begin at the end, and who waits must not take that for what the shards have read */
		if (row->commits == 0)
			ps_shard_progress_align(worker, row, answer->high);
	}
}

/* Brings rows and the broker's answer together. Fills rows with those to read; returns how many. */
static int
reconcile_partitions(PsWorker *worker, PsStoredOffset **rows)
{
	const PsLookup *lookup = &worker->looking_up.lookup;
	bool		looking_up = worker->life == PS_LIFE_LOOKING_UP;
	bool		reads = !looking_up || ps_shard_progress_read(worker, lookup);
	List	   *stored = ps_stream_offsets(worker->stream->stream_id);
	ListCell   *cell;
	bool		added = false;
	int			n = 0;

	for (int t = 0; t < lookup->ntopics; t++)
		added |= add_rows(worker, &lookup->topics[t], stored);
	if (added)
		stored = ps_stream_offsets(worker->stream->stream_id);
	lose_vanished(worker, stored);
	if (looking_up)
		begin_shards(worker, stored);
	/* a crash must not take back where a stream began: 'latest' would be later the next time */
	if (added || (looking_up && worker->shards != NULL))
		ForceSyncCommit();
	ps_balance_resize(worker, ps_lookup_most_partitions(lookup));
	for (int p = 0; p < worker->balance.nleases; p++)
		worker->balance.leases[p].readable = false;
	foreach(cell, stored)
	{
		PsStoredOffset *row = lfirst(cell);

		if (reconcile_row(worker, row, looking_up) && reads)
			rows[n++] = row;
	}
	if (looking_up)
		ps_shard_progress_store_begin(worker);
	for (int p = 0; looking_up && p < worker->balance.nleases; p++)
		if (worker->balance.leases[p].held && !worker->balance.leases[p].readable)
			ps_balance_release(worker, p);
	return n;
}

/* Whether those partitions are assigned that this worker is to read, and none of other topics. */
static bool
is_assigned(PsWorker *worker, PsStoredOffset **rows, int n)
{
	for (int i = 0; i < worker->reading.npartitions; i++)
		if (ps_lookup_topic(&worker->looking_up.lookup, worker->reading.partitions[i].topic_no) == NULL)
			return false;
	for (int i = 0; i < n; i++)
		if (!ps_failure_waits(worker, rows[i]->partition) && ps_partition_find(worker, rows[i]->topic_no, rows[i]->partition) == NULL)
			return false;
	return true;
}

/* Assigns the partitions of these rows, but those that wait after a failure. */
static void
assign_rows(PsWorker *worker, PsStoredOffset **rows, int n)
{
	PsPosition *positions = MemoryContextAlloc(worker->batch_context, Max(n, 1) * sizeof(PsPosition));
	int			read = 0;

	ps_progress_forget(worker);
	worker->reading.partitions = MemoryContextAlloc(worker->context, Max(n, 1) * sizeof(PsPartition));
	for (int i = 0; i < n; i++)
	{
		PsStoredOffset *row = rows[i];
		int64		low = ps_lookup_partition(&worker->looking_up.lookup, row->topic_no, row->partition)->low;

		if (ps_failure_waits(worker, row->partition))
			continue;
		if (worker->shards != NULL)
			row->check.offset = -1; /* those of the shards count */
		ps_progress_init(&worker->reading.partitions[read], row, worker->context);
		positions[read].topic_no = row->topic_no;
		positions[read].partition = row->partition;
		positions[read].offset = ps_topic_identity_begin(&worker->reading.partitions[read], low);
		if (worker->shards != NULL)
			positions[read].offset = ps_shard_topic_begin(worker, row, low);
		read++;
	}
	worker->reading.npartitions = read;

	ps_consumer_assign(worker->consumer, positions, read);
	ps_align_begin(worker, positions);
	ps_report_assign(worker);
	ps_life_assigned(worker);
	ereport(DEBUG1, (errmsg_internal("worker %d of stream \"%s\" reads %d partitions, with leases for %d", worker->number,
									 worker->stream->name, read, worker->balance.nleases)));
}

void
ps_assignment_update(PsWorker *worker)
{
	PsStoredOffset **rows;
	int			n;

	if (ps_rebuild_schema_used())
		ps_rebuild_begin(worker);
	ps_worker_begin(worker);
	ps_lock_tables();
	ps_lease_lock_partitions(worker->stream->stream_id);
	ps_spi_begin();
	MemoryContextSwitchTo(worker->batch_context);
	rows = palloc(Max(ps_lookup_all_partitions(&worker->looking_up.lookup), 1) * sizeof(PsStoredOffset *));
	n = reconcile_partitions(worker, rows);
	ps_commit();
	if (worker->life == PS_LIFE_LOOKING_UP)
		ps_shard_progress_commit(worker);

	worker->balance.next = 0;
	if (worker->life == PS_LIFE_LOOKING_UP)
		assign_rows(worker, rows, n);
	else if (!is_assigned(worker, rows, n))
		ps_life_look_up(worker);	/* a topic has come, or come back */
}
