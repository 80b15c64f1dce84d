/*
 * shard_progress.c
 *	  The messages of a shard are applied in the order of their offsets. So one number for
 *	  each partition says which ones the shard has. It is stored in the shard, in the
 *	  transaction that applies them. When a shard comes to this node, the worker goes back
 *	  to where that shard is, and passes over what the others have already.
 *
 *	  stream_offsets is on each node and says how far this node has read. The offset of a
 *	  shard is never before what the node has finished while the shard was here.
 */
#include "postgres.h"

#include "apply/shard_apply.h"
#include "executor/spi.h"
#include "ingest/life.h"
#include "ingest/partition.h"
#include "ingest/shard_progress.h"
#include "settings.h"
#include "store/partition_catalog.h"
#include "store/shard_fence.h"
#include "store/shard_offsets.h"
#include "store/shards.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

struct PsShardProgress
{
	MemoryContext context;
	uint64		changes;		/* ps_shards_changes() when it was read */
	int			nshards;
	int			npartitions;
	int64	   *stored;			/* next offset by shard and partition, PS_NOT_TAKEN: none */
	int64	   *next;			/* the same after this transaction */
};

static int64 *
offset_in_shard(int64 *offsets, const PsShardProgress *progress, int shard, int32 partition)
{
	return &offsets[shard * progress->npartitions + partition];
}

static void
progress_free(PsWorker *worker)
{
	if (worker->shards != NULL)
		MemoryContextDelete(worker->shards->context);
	worker->shards = NULL;
}

bool
ps_shard_progress_read(PsWorker *worker, int npartitions)
{
	MemoryContext context;
	PsShardProgress *progress;
	int			here = 0;

	progress_free(worker);
	if (!ps_distributed())
		return true;
	ps_shard_fence();
	context = AllocSetContextCreate(worker->context, "profile_stream shards", ALLOCSET_SMALL_SIZES);
	progress = MemoryContextAllocZero(context, sizeof(PsShardProgress));
	progress->context = context;
	progress->changes = ps_shards_changes();
	progress->nshards = ps_shards_count();
	progress->npartitions = npartitions;
	progress->stored = MemoryContextAlloc(context, Max(progress->nshards * npartitions, 1) * sizeof(int64));
	for (int i = 0; i < progress->nshards * npartitions; i++)
		progress->stored[i] = PS_NOT_TAKEN;
	progress->next = MemoryContextAlloc(context, Max(progress->nshards * npartitions, 1) * sizeof(int64));
	for (int shard = 0; shard < progress->nshards; shard++)
	{
		if (!ps_shards_is_here(shard))
			continue;
		here++;
		ps_shards_use(shard);
		ps_shard_offsets_read(worker->stream_id, offset_in_shard(progress->stored, progress, shard, 0), npartitions);
	}
	ps_shards_use(PS_NO_SHARD);
	worker->shards = progress;
	return here > 0;
}

void
ps_shard_progress_align(PsWorker *worker, PsStoredOffset *row)
{
	PsShardProgress *progress = worker->shards;
	int64		first = PG_INT64_MAX;

	if (progress == NULL)
		return;
	for (int shard = 0; shard < progress->nshards; shard++)
	{
		int64		next;

		if (!ps_shards_is_here(shard))
			continue;
		next = *offset_in_shard(progress->stored, progress, shard, row->partition);
		first = Min(first, next == PS_NOT_TAKEN ? row->start_offset : next);
	}
	if (first == PG_INT64_MAX || first == row->next_offset)
		return;
	ps_stream_align(worker->stream_id, row, first);
}

void
ps_shard_progress_turn(PsWorker *worker)
{
	if (worker->shards != NULL && ps_shards_are_stale())
		ps_life_look_up(worker);
}

/* Whether keys say to which shard messages belong, whatever these are: then all nodes say the same without decoding them. */
static bool
goes_by_key(const PsWorker *worker)
{
	return strcmp(worker->stream->message_key, "customer") == 0;
}

static int
shard_of_key(const PsMessage *message)
{
	int			len;
	const char *key = ps_message_key_id(message, &len);

	return ps_shards_find(key, len);
}

void
ps_shard_progress_note_key(const PsWorker *worker, PsApplyItem *item)
{
	if (worker->shards == NULL || !goes_by_key(worker) || item->message.key == NULL)
		return;
	if (worker->shards->changes != ps_shards_changes())
		return;					/* check_shards() will raise */
	item->shard = shard_of_key(&item->message);
	item->shard_is_known = true;
	if (!ps_shards_is_here(item->shard))
		item->outcome = PS_ELSEWHERE;
}

/* The shard of a message: that of its key or customer, or else of its place in the topic. */
static int
shard_of_message(const PsWorker *worker, const PsApplyItem *item)
{
	bool		by_key = goes_by_key(worker);
	char		place[64];

	if (item->shard_is_known)
		return item->shard;
	if (by_key && item->message.key != NULL)
		return shard_of_key(&item->message);
	if (!by_key && item->owner != NULL)
		return ps_shards_find(item->owner->customer_id, item->owner->customer_id_len);
	snprintf(place, sizeof(place), "%d:" INT64_FORMAT, item->message.partition, item->message.offset);
	return ps_shards_find(place, strlen(place));
}

/* Raises unless the shards are those whose offsets were read. */
static void
check_shards(PsWorker *worker)
{
	if (worker->shards != NULL && worker->shards->changes == ps_shards_changes())
		return;
	worker->failure.superseded = true;
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("shards of profiles have moved")));
}

void
ps_shard_progress_sort(PsWorker *worker, PsApplyItem *items, int n)
{
	int			nshards = worker->shards->nshards;
	int		   *ends = palloc0((nshards + 2) * sizeof(int));
	PsApplyItem *sorted = palloc_extended(Max(n, 1) * sizeof(PsApplyItem), MCXT_ALLOC_HUGE);

	check_shards(worker);
	for (int i = 0; i < n; i++)
	{
		items[i].shard = shard_of_message(worker, &items[i]);
		ends[items[i].shard + 1]++;
	}
	for (int shard = 1; shard <= nshards; shard++)
		ends[shard] += ends[shard - 1];
	for (int i = 0; i < n; i++)
		sorted[ends[items[i].shard]++] = items[i];
	memcpy(items, sorted, n * sizeof(PsApplyItem));
	pfree(sorted);
	pfree(ends);
}

void
ps_shard_progress_fence(PsWorker *worker)
{
	if (!ps_distributed())
		return;
	ps_shard_fence();
	PS_FAILPOINT("after_fence");
	check_shards(worker);
}

/* Whether this node has nothing to do for a message. */
static bool
is_elsewhere(PsShardProgress *progress, const PsApplyItem *item)
{
	return !ps_shards_is_here(item->shard) ||
		item->message.offset < *offset_in_shard(progress->stored, progress, item->shard, item->message.partition);
}

/* Applies the items of one shard, without those that it has taken. */
static void
apply_shard(PsWorker *worker, PsApplyItem *items, int n, const PsApplySettings *settings)
{
	PsShardProgress *progress = worker->shards;
	int			from = 0;

	while (from < n)
	{
		bool		elsewhere = is_elsewhere(progress, &items[from]);
		int			to = from;

		for (; to < n && is_elsewhere(progress, &items[to]) == elsewhere; to++)
		{
			int64	   *next = offset_in_shard(progress->next, progress, items[to].shard, items[to].message.partition);

			if (elsewhere)
				items[to].outcome = PS_ELSEWHERE;
			else
				*next = Max(*next, items[to].message.offset + 1);
		}
		if (!elsewhere)
			ps_apply_items_of_shard(items + from, to - from, items[from].shard, settings);
		for (int i = from; i < to; i++)
			if (items[i].outcome == PS_DEFERRED)
				elog(ERROR, "a message of a shard was left out");	/* the stored offset would pass it */
		from = to;
	}
}

void
ps_shard_progress_apply(PsWorker *worker, PsApplyItem *items, int n, const PsApplySettings *settings)
{
	PsShardProgress *progress = worker->shards;
	int			to;

	memcpy(progress->next, progress->stored, progress->nshards * progress->npartitions * sizeof(int64));
	for (int from = 0; from < n; from = to)
	{
		for (to = from + 1; to < n && items[to].shard == items[from].shard; to++)
			;
		apply_shard(worker, items + from, to - from, settings);
	}
}

/* The moves of a shard; how many. */
static int
moves_of_shard(PsShardProgress *progress, int shard, PsShardMove *moves)
{
	int			n = 0;

	for (int32 p = 0; p < progress->npartitions; p++)
	{
		PsShardMove move = {p, *offset_in_shard(progress->stored, progress, shard, p), *offset_in_shard(progress->next, progress, shard, p)};

		if (move.next_offset > move.expected_offset)
			moves[n++] = move;
	}
	return n;
}

void
ps_shard_progress_store(PsWorker *worker, const PsOffsetMove *node, int nnode, bool all)
{
	PsShardProgress *progress = worker->shards;
	PsShardMove *moves = palloc(Max(progress->npartitions, 1) * sizeof(PsShardMove));

	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	for (int shard = 0; shard < progress->nshards; shard++)
	{
		int			nmoves;

		if (!ps_shards_is_here(shard))
			continue;
		for (int i = 0; all && i < nnode; i++)
		{
			int64	   *next = offset_in_shard(progress->next, progress, shard, node[i].partition);

			*next = Max(*next, node[i].next_offset);
		}
		nmoves = moves_of_shard(progress, shard, moves);
		if (nmoves == 0)
			continue;
		ps_shards_use(shard);
		ps_shard_offsets_move(worker->stream_id, moves, nmoves);
		ps_shards_use(PS_NO_SHARD);
	}
	PopActiveSnapshot();
	SPI_finish();
}

void
ps_shard_progress_commit(PsWorker *worker)
{
	PsShardProgress *progress = worker->shards;

	if (progress != NULL)
		memcpy(progress->stored, progress->next, progress->nshards * progress->npartitions * sizeof(int64));
}
