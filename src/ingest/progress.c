/*
 * progress.c
 *	  How far the worker's partitions are read and finished, in memory; batch.c
 *	  stores it with the data.
 */
#include "postgres.h"

#include "ingest/worker.h"
#include "message.h"

void
ps_progress_init(PsPartition *partition, const PsStoredOffset *stored, MemoryContext context)
{
	memset(partition, 0, sizeof(PsPartition));
	partition->partition = stored->partition;
	partition->epoch = stored->epoch;
	partition->stored_offset = stored->next_offset;
	partition->commits = stored->commits;
	partition->check = stored->check;
	partition->read_before = partition->read_stored = stored->read_offset;
	ps_offset_set_init(&partition->offsets, stored->next_offset, stored->finished, context);
}

/* Forgets the partitions and what is held of them. */
void
ps_progress_forget(PsWorker *worker)
{
	for (int i = 0; i < worker->npartitions; i++)
		if (worker->partitions[i].offsets.bits != NULL)
			pfree(worker->partitions[i].offsets.bits);
	if (worker->partitions != NULL)
		pfree(worker->partitions);
	worker->partitions = NULL;
	worker->npartitions = 0;
	ps_reorder_reset(worker->reorder);
	ps_deferred_reset(worker->aside);
}

/*
 * Takes back what was counted as read and held before the worker started, and is
 * not in the topic any more: compaction or retention passed before an offset.
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

/* Notes that a message was read; whether it is to be applied. */
bool
ps_progress_read(PsWorker *worker, const PsMessage *message)
{
	PsPartition *partition = ps_partition_find(worker, message->partition);

	if (partition == NULL || partition->suspect || message->offset < partition->offsets.read)
		return false;			/* not ours any more, or delivered twice */
	uncount_vanished(partition, message->offset);
	partition->counts.consumed++;
	if (message->offset < partition->read_before)
		partition->counts.replayed++;
	if (ps_offset_set_read(&partition->offsets, message->offset))
		return false;
	partition->unfinished_bytes += ps_message_space(message);
	return true;
}

void
ps_progress_end(PsWorker *worker, const PsPosition *end)
{
	PsPartition *partition = ps_partition_find(worker, end->partition);

	if (partition == NULL || partition->suspect)
		return;
	uncount_vanished(partition, end->offset);
	ps_offset_set_read_to(&partition->offsets, end->offset);
}

/* Whether the row does not know yet what was read. */
static bool
is_unstored(const PsPartition *partition)
{
	return partition->counts.consumed != 0 || partition->offsets.read > partition->read_stored;
}

PsMoment
ps_progress_due(const PsWorker *worker)
{
	for (int i = 0; i < worker->npartitions; i++)
		if (is_unstored(&worker->partitions[i]))
			return worker->next_progress;
	return PS_MOMENT_NEVER;
}

void
ps_progress_mark(PsWorker *worker, const PsApplyItem *items, int n, bool finished)
{
	for (int i = 0; i < n; i++)
	{
		const PsMessage *message = &items[i].message;
		PsPartition *partition = ps_partition_find(worker, message->partition);
		int64		bytes;

		if ((finished && items[i].outcome == PS_HELD) ||
			ps_offset_set_finished(&partition->offsets, message->offset) == finished)
			continue;
		ps_offset_set_mark(&partition->offsets, message->offset, finished);
		bytes = ps_message_space(message);
		partition->unfinished_bytes += finished ? -bytes : bytes;
	}
}

/* What a partition's row shall say, but for what became of the messages; last is the last one before its next offset. */
static void
progress_describe(PsWorker *worker, PsPartition *partition, const PsMessage *last, PsOffsetMove *move)
{
	int64		read = Max(partition->offsets.read, partition->read_before);

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
	move->end_offset = ps_consumer_end_offset(worker->consumer, partition->partition);
	ps_counts_add(&move->counts, &partition->counts);
}

int
ps_progress_moves(PsWorker *worker, const PsApplyItem *items, int n, bool reading, PsOffsetMove *moves)
{
	int			most = Max(worker->npartitions, 1);
	bool	   *touched = palloc0(most * sizeof(bool));
	int64	   *next = palloc(most * sizeof(int64));
	const PsMessage **last = palloc0(most * sizeof(PsMessage *));
	int			nmoves = 0;

	memset(moves, 0, worker->npartitions * sizeof(PsOffsetMove));
	for (int i = 0; i < worker->npartitions; i++)
	{
		moves[i].last_message_at = DT_NOBEGIN;
		next[i] = ps_offset_set_candidate(&worker->partitions[i].offsets);
	}
	for (int e = 0; e < n; e++)
	{
		const PsMessage *message = &items[e].message;
		int			i;

		if (items[e].outcome == PS_HELD)
			continue;
		i = ps_partition_find(worker, message->partition) - worker->partitions;
		touched[i] = true;
		moves[i].last_message_at = Max(moves[i].last_message_at, message->kafka_timestamp);
		if (message->offset < next[i] && (last[i] == NULL || message->offset > last[i]->offset))
			last[i] = message;
		ps_apply_count(&moves[i].counts, items[e].outcome);
	}
	for (int i = 0; i < worker->npartitions; i++)
	{
		PsPartition *partition = &worker->partitions[i];

		if (!touched[i] && next[i] == partition->stored_offset &&
			!(reading && is_unstored(partition)))
			continue;
		progress_describe(worker, partition, last[i], &moves[i]);
		moves[nmoves++] = moves[i];
	}
	return nmoves;
}

void
ps_progress_committed(PsWorker *worker, const PsOffsetMove *moves, int n)
{
	for (int i = 0; i < n; i++)
	{
		PsPartition *partition = ps_partition_find(worker, moves[i].partition);

		partition->stored_offset = moves[i].next_offset;
		partition->read_stored = moves[i].read_offset;
		partition->check = moves[i].check;
		partition->commits++;
		memset(&partition->counts, 0, sizeof(PsCounts));
		ps_health_count(worker, &moves[i].counts);
		ps_offset_set_advance(&partition->offsets);
	}
}
