/*
 * progress.c
 *	  How far the worker's partitions are read and finished.
 *
 *	  Messages are not always finished in the order of their offsets, because some
 *	  wait. So a partition has a next offset, before which everything is finished, and
 *	  marks of single messages behind it. batch.c stores both in the transaction that
 *	  applies the messages: after a crash exactly the unfinished ones are applied.
 */
#include "postgres.h"

#include "ingest/align.h"
#include "ingest/health.h"
#include "ingest/order_check.h"
#include "ingest/progress.h"
#include "ingest/topic_identity.h"
#include "message.h"
#include "utils/memutils.h"

void
ps_progress_init(PsPartition *partition, const PsStoredOffset *stored, MemoryContext context)
{
	memset(partition, 0, sizeof(PsPartition));
	partition->topic_no = stored->topic_no;
	partition->partition = stored->partition;
	partition->epoch = stored->epoch;
	partition->stored_offset = stored->next_offset;
	partition->commits = stored->commits;
	partition->check = stored->check;
	partition->read_before = partition->read_stored = stored->read_offset;
	partition->last_at = partition->caught_up_at = DT_NOBEGIN;
	ps_offset_set_init(&partition->offsets, stored->next_offset, stored->finished, context);
}

void
ps_progress_forget(PsWorker *worker)
{
	for (int i = 0; i < worker->reading.npartitions; i++)
		if (worker->reading.partitions[i].offsets.bits != NULL)
			pfree(worker->reading.partitions[i].offsets.bits);
	if (worker->reading.partitions != NULL)
		pfree(worker->reading.partitions);
	worker->reading.partitions = NULL;
	worker->reading.npartitions = 0;
	ps_align_reset(worker);
	ps_waiting_reset(worker->waiting);
	MemoryContextReset(worker->parts_context);
}

PsParts *
ps_progress_share(PsWorker *worker, int n)
{
	PsParts    *parts = MemoryContextAllocZero(worker->parts_context, sizeof(PsParts));

	parts->unfinished = parts->references = n;
	return parts;
}

/*
 * Takes messages out of the count that were counted as read before the worker
 * started, but are not in the topic any more: compaction or retention has removed
 * them before this offset.
 */
static void
uncount_vanished(PsPartition *partition, int64 offset)
{
	PsOffsetSet *offsets = &partition->offsets;
	int64		until = Min(offset, partition->read_before);

	if (until > offsets->read)
		partition->counts.consumed -= ps_offset_set_unfinished(offsets, until) -
			ps_offset_set_unfinished(offsets, offsets->read);
}

/*
 * Whether an offset is so far behind a message that is not finished that the marks of
 * all between would take too much memory. Then nothing more is taken of the partition.
 */
static bool
is_too_far(PsPartition *partition, int64 offset)
{
	PsOffsetSet *offsets = &partition->offsets;

	if (offset - offsets->next <= PS_MAX_MARKED_SPAN || offset < offsets->until)
		return false;
	/* what was read before the worker started, up to the last mark, comes no more */
	uncount_vanished(partition, offsets->until);
	ps_offset_set_read_to(offsets, offsets->until);
	partition->is_barred = ps_offset_set_candidate(offsets) != offsets->read;
	return partition->is_barred;
}

bool
ps_progress_read(PsWorker *worker, const PsMessage *message)
{
	PsPartition *partition = ps_partition_find(worker, message->topic_no, message->partition);

	if (partition == NULL || partition->suspect || message->offset < partition->offsets.read)
		return false;			/* the partition is not ours any more, or the message was delivered twice */
	if (partition->is_barred || is_too_far(partition, message->offset))
		return false;
	uncount_vanished(partition, message->offset);
	partition->counts.consumed++;
	if (message->offset < partition->read_before)
		partition->counts.replayed++;
	ps_timeline_add(&partition->timeline, message->offset, message->kafka_timestamp);
	if (ps_offset_set_read(&partition->offsets, message->offset))
		return false;
	partition->unfinished_bytes += ps_message_size(message);
	return true;
}

void
ps_progress_end(PsWorker *worker, const PsPosition *end)
{
	PsPartition *partition = ps_partition_find(worker, end->topic_no, end->partition);

	if (partition == NULL || partition->suspect || partition->is_barred || is_too_far(partition, end->offset))
		return;
	uncount_vanished(partition, end->offset);
	ps_offset_set_read_to(&partition->offsets, end->offset);
}

/* Whether something was read that the row does not say yet. */
static bool
is_unstored(const PsPartition *partition)
{
	return partition->counts.consumed != 0 || partition->offsets.read > partition->read_stored;
}

PsMoment
ps_progress_due(const PsWorker *worker)
{
	for (int i = 0; i < worker->reading.npartitions; i++)
		if (is_unstored(&worker->reading.partitions[i]))
			return worker->reading.next_progress;
	return PS_MOMENT_NEVER;
}

/* Whether the message of an item is finished with this item, or was until it became unfinished again: other items may share it. */
static bool
progress_is_last(const PsApplyItem *item, bool finished)
{
	PsParts    *parts = item->parts;

	if (parts == NULL)
		return true;
	parts->finished_by = NULL;
	if (!finished)
		return parts->unfinished++ == 0;
	if (--parts->unfinished > 0)
		return false;
	parts->finished_by = item;
	return true;
}

/* Marks the messages of items as finished, or as unfinished again. */
static void
progress_mark(PsWorker *worker, const PsApplyItem *items, int n, bool finished)
{
	for (int i = 0; i < n; i++)
	{
		const PsMessage *message = &items[i].message;
		PsPartition *partition = ps_partition_find(worker, message->topic_no, message->partition);
		int64		bytes;

		if (items[i].outcome == PS_DEFERRED || !progress_is_last(&items[i], finished) ||
			ps_offset_set_finished(&partition->offsets, message->offset) == finished)
			continue;
		ps_offset_set_mark(&partition->offsets, message->offset, finished);
		bytes = ps_message_size(message);
		partition->unfinished_bytes += finished ? -bytes : bytes;
	}
}

/* What a partition's row is to say, without the counts of outcomes. last: the last message before its next offset. */
static void
progress_describe(PsWorker *worker, PsPartition *partition, const PsMessage *last, PsOffsetMove *move)
{
	int64		read = Max(partition->offsets.read, partition->read_before);

	move->topic_no = partition->topic_no;
	move->partition = partition->partition;
	move->epoch = partition->epoch;
	move->expected_offset = partition->stored_offset;
	move->expected_commits = partition->commits;
	move->next_offset = ps_offset_set_candidate(&partition->offsets);
	move->read_offset = Max(read, move->next_offset);
	move->finished = ps_offset_set_encode(&partition->offsets, move->next_offset);
	move->held = ps_offset_set_unfinished(&partition->offsets, move->read_offset);
	move->held_bytes = partition->unfinished_bytes;
	move->check = ps_topic_identity_next(partition, last);
	move->end_offset = ps_consumer_end_offset(worker->consumer, partition->topic_no, partition->partition);
	ps_counts_add(&move->counts, &partition->counts);
}

/* Counts the items' outcomes in the moves of their partitions; last[i]: the last message before the next offset of one. */
static void
progress_count(PsWorker *worker, const PsProgress *progress, const int64 *next, const PsMessage **last, bool *touched)
{
	for (int e = 0; e < progress->n; e++)
	{
		const PsApplyItem *item = &progress->items[e];
		const PsMessage *message = &item->message;
		int			i;

		if (item->outcome == PS_DEFERRED)
			continue;
		i = ps_partition_find(worker, message->topic_no, message->partition) - worker->reading.partitions;
		touched[i] = true;
		progress->moves[i].last_message_at = Max(progress->moves[i].last_message_at, message->kafka_timestamp);
		if (message->offset < next[i] && (last[i] == NULL || message->offset > last[i]->offset))
			last[i] = message;
		ps_apply_count(&progress->moves[i].counts, item->outcome);
		if (item->outcome == PS_APPLIED)
			ps_source_counts_add(&progress->moves[i].sources, item->event->source,
								 item->event->source == NULL ? 0 : (int) strlen(item->event->source), 1, item->event->timestamp);
		progress->moves[i].counts.late_applied += item->outcome == PS_APPLIED && item->late_us > 0;
		if (item->outcome != PS_ELSEWHERE)
			ps_order_check(worker, item, &progress->moves[i].counts);
		/* each further event of a message counts as another message */
		if (item->parts != NULL && item->parts->finished_by != item)
			progress->moves[i].counts.consumed++;
	}
}

void
ps_progress_begin(PsWorker *worker, PsProgress *progress, const PsApplyItem *items, int n, bool store_read)
{
	int			npartitions = worker->reading.npartitions;
	int			most = Max(npartitions, 1);
	bool	   *touched = palloc0(most * sizeof(bool));
	int64	   *next = palloc(most * sizeof(int64));
	const PsMessage **last = palloc0(most * sizeof(PsMessage *));
	PsOffsetMove *moves = MemoryContextAllocZero(worker->batch_context, most * sizeof(PsOffsetMove));

	progress->items = items;
	progress->n = n;
	progress->moves = moves;
	progress->nmoves = 0;
	progress_mark(worker, items, n, true);
	for (int i = 0; i < npartitions; i++)
	{
		moves[i].last_message_at = DT_NOBEGIN;
		next[i] = ps_offset_set_candidate(&worker->reading.partitions[i].offsets);
	}
	progress_count(worker, progress, next, last, touched);
	for (int i = 0; i < npartitions; i++)
	{
		PsPartition *partition = &worker->reading.partitions[i];

		if (!touched[i] && next[i] == partition->stored_offset &&
			!(store_read && is_unstored(partition)))
			continue;
		progress_describe(worker, partition, last[i], &moves[i]);
		moves[progress->nmoves++] = moves[i];
	}
}

void
ps_progress_commit(PsWorker *worker, const PsProgress *progress)
{
	for (int i = 0; i < progress->n; i++)
	{
		PsParts    *parts = progress->items[i].parts;

		if (parts != NULL && progress->items[i].outcome != PS_DEFERRED && --parts->references == 0)
			pfree(parts);
	}
	for (int i = 0; i < progress->nmoves; i++)
	{
		const PsOffsetMove *move = &progress->moves[i];
		PsPartition *partition = ps_partition_find(worker, move->topic_no, move->partition);

		partition->stored_offset = move->next_offset;
		partition->read_stored = move->read_offset;
		partition->check = move->check;
		partition->last_at = Max(partition->last_at, move->last_message_at);
		partition->commits++;
		memset(&partition->counts, 0, sizeof(PsCounts));
		ps_health_count(worker, &move->counts);
		ps_offset_set_advance(&partition->offsets);
		if (partition->is_barred && partition->offsets.next == partition->offsets.read)
			ps_topic_identity_read_again(worker, partition);
	}
}

void
ps_progress_rollback(PsWorker *worker, PsProgress *progress)
{
	if (progress->items != NULL)
		progress_mark(worker, progress->items, progress->n, false);
	progress->items = NULL;
}
