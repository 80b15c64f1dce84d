/*
 * shard_topic.c
 *	  topic_identity.c does the same for a server of its own, by the row of a partition.
 */
#include "postgres.h"

#include "ingest/shard_state.h"
#include "ingest/shard_topic.h"
#include "ingest/topic_identity.h"

/* Whether the topic is another one than the shard has read. */
static bool
is_other_for(const ShardCell *cell, const PsLookupPartition *answer)
{
	return cell->recreated || cell->next.next_offset > answer->high || cell->next.check.offset >= answer->high;
}

static bool
is_lost_for(const ShardCell *cell, const PsLookupPartition *answer)
{
	return is_other_for(cell, answer) || cell->next.next_offset < answer->low;
}

bool
ps_shard_topic_find_loss(PsWorker *worker, const PsStoredOffset *row, const PsLookupPartition *answer, PsShardLoss *loss)
{
	PsShardProgress *progress = worker->shards;

	loss->first.next_offset = PG_INT64_MAX;
	loss->recreated = false;
	for (int shard = 0; shard < progress->nshards; shard++)
	{
		const ShardCell *cell = cell_here(worker, shard, row->topic_no, row->partition);

		if (cell == NULL || !is_lost_for(cell, answer))
			continue;
		/* it may have come after the broker was asked, and have taken more since */
		if (worker->looking_up.asked_shards != progress->changes)
		{
			worker->looking_up.next = 0;
			worker->failure.superseded = true;
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("shards of profiles have moved")));
		}
		if (cell->next.next_offset < loss->first.next_offset)
			loss->first = cell->next;
		loss->recreated |= is_other_for(cell, answer);
	}
	return loss->first.next_offset != PG_INT64_MAX;
}

void
ps_shard_topic_jump(PsWorker *worker, const PsStoredOffset *row, const PsLookupPartition *answer, int64 target)
{
	PsShardProgress *progress = worker->shards;

	for (int shard = 0; shard < progress->nshards; shard++)
	{
		ShardCell  *cell = cell_here(worker, shard, row->topic_no, row->partition);

		if (cell == NULL || !is_lost_for(cell, answer))
			continue;
		cell->next.next_offset = target;
		cell->next.check.offset = -1;
		cell->recreated = false;
	}
}

int64
ps_shard_topic_begin(PsWorker *worker, const PsStoredOffset *row, int64 low)
{
	PsShardProgress *progress = worker->shards;
	int64		first = row->next_offset;

	for (int shard = 0; shard < progress->nshards; shard++)
	{
		ShardCell  *cell = cell_here(worker, shard, row->topic_no, row->partition);

		if (cell == NULL)
			continue;
		cell->unverified = ps_topic_identity_is_near(&cell->stored.check, cell->stored.next_offset, low);
		if (!cell->unverified)
			continue;
		progress->nunverified++;
		first = Min(first, cell->stored.check.offset);
	}
	return first;
}

/* Compares a message with the fingerprints of the shards that have not seen it again. */
static bool
verify_message(PsWorker *worker, const PsMessage *message)
{
	PsShardProgress *progress = worker->shards;
	PsFingerprint found = ps_topic_identity_fingerprint(message);
	bool		same = true;

	for (int shard = 0; shard < progress->nshards; shard++)
	{
		ShardCell  *cell = cell_here(worker, shard, message->topic_no, message->partition);

		if (cell == NULL || !cell->unverified || message->offset < cell->stored.check.offset)
			continue;
		cell->unverified = false;
		progress->nunverified--;
		if (message->offset > cell->stored.check.offset)
			continue;			/* compaction or retention removed the message: there is nothing to compare */
		cell->recreated = found.hash != cell->stored.check.hash || found.timestamp != cell->stored.check.timestamp;
		same &= !cell->recreated;
	}
	return same;
}

bool
ps_shard_topic_verify(PsWorker *worker, const PsIntake *intake)
{
	PsShardProgress *progress = worker->shards;
	bool		same = true;

	for (int i = 0; progress != NULL && progress->nunverified > 0 && i < intake->n; i++)
		same &= verify_message(worker, &intake->messages[i]);
	return same;
}

void
ps_shard_topic_keep(PsWorker *worker, PsShardProgress *before)
{
	PsShardProgress *progress = worker->shards;

	for (int shard = 0; shard < Min(before->nshards, progress->nshards); shard++)
		for (int t = 0; t < progress->ntopics; t++)
			for (int p = 0; p < progress->topics[t].npartitions; p++)
			{
				ShardCell  *cell = cell_here(worker, shard, progress->topics[t].topic_no, p);
				const ShardCell *old = cell_of_shard(before, shard, progress->topics[t].topic_no, p);

				/* the fingerprint is still the one that was compared */
				if (cell != NULL && old != NULL && cell->stored.check.offset == old->stored.check.offset && cell->stored.check.hash == old->stored.check.hash)
					cell->recreated = old->recreated;
			}
}
