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
#include "ingest/shard_state.h"
#include "ingest/shard_topic.h"
#include "ingest/topic_identity.h"
#include "settings.h"
#include "store/partition_catalog.h"
#include "store/shard_fence.h"
#include "store/shards.h"
#include "store/topic_catalog.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* The cell of a message that is applied. */
static ShardCell *
cell_of_message(PsShardProgress *progress, int shard, const PsMessage *message)
{
	ShardCell  *cell = cell_of_shard(progress, shard, message->topic_no, message->partition);

	if (cell == NULL)
		elog(ERROR, "the offsets of topic %d were not read", message->topic_no);
	return cell;
}

static void
progress_free(PsWorker *worker)
{
	if (worker->shards != NULL)
		MemoryContextDelete(worker->shards->context);
	worker->shards = NULL;
}

/* An empty progress of the topics that the broker has. */
static PsShardProgress *
make_progress(MemoryContext context, const PsLookup *lookup)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	PsShardProgress *progress = palloc0(sizeof(PsShardProgress));
	int			n;

	progress->context = context;
	progress->changes = ps_shards_changes();
	progress->nshards = ps_shards_count();
	progress->topics = palloc(Max(lookup->ntopics, 1) * sizeof(ShardTopic));
	for (int t = 0; t < lookup->ntopics; t++)
	{
		const PsLookupTopic *topic = &lookup->topics[t];

		progress->topics[progress->ntopics++] = (ShardTopic)
		{
			topic->topic_no, pstrdup(topic->name), progress->nplaces, topic->npartitions
		};
		progress->nplaces += topic->npartitions;
	}
	n = Max(progress->nshards * progress->nplaces, 1);
	progress->cells = palloc_extended(n * sizeof(ShardCell), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < n; i++)
	{
		progress->cells[i].stored.next_offset = PS_NOT_TAKEN;
		progress->cells[i].stored.check.offset = -1;
	}
	progress->seeks = palloc0(Max(progress->nplaces, 1) * sizeof(PsTaken));
	progress->matches = palloc0(Max(progress->nshards, 1) * sizeof(bool));
	MemoryContextSwitchTo(caller);
	return progress;
}

/* The place of a partition, -1: the broker did not have it. */
static int
find_place(const PsShardProgress *progress, const char *topic, int32 partition)
{
	for (int t = 0; t < progress->ntopics; t++)
		if (strcmp(progress->topics[t].name, topic) == 0 && partition >= 0 && partition < progress->topics[t].npartitions)
			return progress->topics[t].first + partition;
	return -1;
}

/* Whether a stream reads a topic because of its pattern alone. */
static bool
is_matched(const PsStream *stream, const char *topic)
{
	return stream->topic_pattern != NULL && !ps_stream_names_topic(stream, topic) && ps_stream_takes_topic(stream, topic);
}

/* Reads what the shard in use has taken. */
static void
read_shard(PsWorker *worker, PsShardProgress *progress, int shard)
{
	ListCell   *cell;

	foreach(cell, ps_shard_offsets_read(worker->stream_id))
	{
		const PsShardOffset *offset = lfirst(cell);
		int			place = find_place(progress, offset->topic, offset->partition);

		if (place >= 0)
			progress->cells[shard * progress->nplaces + place].stored = offset->taken;
		progress->matches[shard] = progress->matches[shard] || is_matched(worker->stream, offset->topic);
	}
}

static void
read_seeks(PsWorker *worker, PsShardProgress *progress)
{
	ListCell   *cell;

	foreach(cell, ps_stream_seeks(worker->stream_id))
	{
		const PsStreamSeek *seek = lfirst(cell);
		int			place = find_place(progress, seek->topic, seek->partition);

		if (place >= 0)
			progress->seeks[place] = (PsTaken)
		{
			seek->next_offset, seek->seek_no,
			{
				-1, DT_NOBEGIN, 0
			}
		};
	}
}

static void
forget_next(PsShardProgress *progress)
{
	for (int i = 0; i < progress->nshards * progress->nplaces; i++)
	{
		progress->cells[i].next = progress->cells[i].stored;
		progress->cells[i].last = NULL;
	}
}

/* Raises unless each topic has a partition for each shard, where that is how the stream finds the shard of a message. */
static void
check_partitions(const PsWorker *worker, const PsShardProgress *progress)
{
	for (int t = 0; t < progress->ntopics && ps_stream_goes_by_partition(worker->stream); t++)
		if (progress->topics[t].npartitions > 0 && progress->topics[t].npartitions != progress->nshards)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("topic \"%s\" has %d partitions, and profiles have %d shards", progress->topics[t].name, progress->topics[t].npartitions, progress->nshards),
					 errdetail("A stream with partitioner citus reads topics that have a partition for each shard."),
					 errhint("Drop the stream, and create it without partitioner, or for a topic that has as many.")));
}

bool
ps_shard_progress_read(PsWorker *worker, const PsLookup *lookup)
{
	PsShardProgress *progress;
	PsShardProgress *before = worker->shards;
	int			here = 0;

	if (!ps_distributed())
	{
		progress_free(worker);
		return true;
	}
	ps_shard_fence();
	progress = make_progress(AllocSetContextCreate(worker->context, "profile_stream shards", ALLOCSET_SMALL_SIZES), lookup);
	if (before != NULL)
		MemoryContextSetParent(before->context, progress->context);
	worker->shards = progress;
	check_partitions(worker, progress);
	for (int shard = 0; shard < progress->nshards; shard++)
	{
		if (!ps_shards_is_here(shard))
			continue;
		here++;
		ps_shards_use(shard);
		(void) ps_shard_offsets_forget_dropped(NULL);
		read_shard(worker, progress, shard);
	}
	ps_shards_use(PS_NO_SHARD);
	read_seeks(worker, progress);
	if (before != NULL)
	{
		ps_shard_topic_keep(worker, before);
		MemoryContextDelete(before->context);
	}
	forget_next(progress);
	return here > 0;
}

bool
ps_shard_progress_is_elsewhere(const PsWorker *worker)
{
	for (int shard = 0; worker->shards != NULL && shard < worker->shards->nshards; shard++)
		if (ps_shards_is_here(shard))
			return false;
	return worker->shards != NULL;
}

/* Whether a shard has taken any partition of a topic. */
static bool
knows_topic(const PsShardProgress *progress, int shard, const ShardTopic *topic)
{
	for (int p = 0; p < topic->npartitions; p++)
		if (progress->cells[shard * progress->nplaces + topic->first + p].stored.next_offset != PS_NOT_TAKEN)
			return true;
	return false;
}

/* Whether a partition, or its topic, has come after a shard began to read the stream: then it is read from its beginning. */
static bool
is_new_for_shard(const PsWorker *worker, int shard, const ShardTopic *topic)
{
	return knows_topic(worker->shards, shard, topic) ||
		(worker->shards->matches[shard] && is_matched(worker->stream, topic->name));
}

void
ps_shard_progress_begin(PsWorker *worker, const PsStoredOffset *row, int64 low)
{
	PsShardProgress *progress = worker->shards;
	const ShardTopic *topic = progress == NULL ? NULL : topic_of_progress(progress, row->topic_no);
	const PsTaken *seek;

	if (topic == NULL || row->partition >= topic->npartitions)
		return;
	seek = &progress->seeks[topic->first + row->partition];
	for (int shard = 0; shard < progress->nshards; shard++)
	{
		ShardCell  *cell = cell_here(worker, shard, row->topic_no, row->partition);

		if (cell == NULL)
			continue;
		if (cell->stored.seek_no < seek->seek_no)
		{
			cell->next = *seek;
			cell->recreated = false;
		}
		else if (cell->stored.next_offset == PS_NOT_TAKEN)
			cell->next.next_offset = is_new_for_shard(worker, shard, topic) ? low : row->start_offset;
	}
}

int64
ps_shard_progress_first(PsWorker *worker, const PsStoredOffset *row)
{
	PsShardProgress *progress = worker->shards;
	int64		first = PG_INT64_MAX;

	for (int shard = 0; shard < progress->nshards; shard++)
	{
		ShardCell  *cell = cell_here(worker, shard, row->topic_no, row->partition);

		if (cell != NULL)
			first = Min(first, cell->next.next_offset);
	}
	return first == PG_INT64_MAX ? row->next_offset : first;
}

void
ps_shard_progress_align(PsWorker *worker, PsStoredOffset *row, int64 high)
{
	int64		first;

	if (worker->shards == NULL)
		return;
	first = ps_shard_progress_first(worker, row);
	if (first != row->next_offset || row->lost)
		ps_stream_align(worker->stream_id, row, first, row->check.offset >= high);
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

/* The shard of a message by its partition or key; PS_NO_SHARD: these do not say it. */
static int
shard_of_place(const PsWorker *worker, const PsMessage *message)
{
	if (ps_stream_goes_by_partition(worker->stream))
		return message->partition;
	return goes_by_key(worker) && message->key != NULL ? shard_of_key(message) : PS_NO_SHARD;
}

void
ps_shard_progress_note_shard(const PsWorker *worker, PsApplyItem *item)
{
	int			shard;

	/* check_shards() will raise */
	if (worker->shards == NULL || worker->shards->changes != ps_shards_changes())
		return;
	shard = shard_of_place(worker, &item->message);
	if (shard == PS_NO_SHARD)
		return;
	item->shard = shard;
	item->shard_is_known = true;
	if (!ps_shards_is_here(item->shard))
		item->outcome = PS_ELSEWHERE;
}

/* The shard of a message: that of its partition, key or customer, or else of its offset. */
static int
shard_of_message(const PsWorker *worker, const PsApplyItem *item)
{
	int			shard = item->shard_is_known ? item->shard : shard_of_place(worker, &item->message);
	char		place[64];

	if (shard != PS_NO_SHARD)
		return shard;
	if (!goes_by_key(worker) && item->owner != NULL)
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

static bool
is_same_message(const PsMessage *a, const PsMessage *b)
{
	return a->topic_no == b->topic_no && a->partition == b->partition && a->offset == b->offset;
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
	for (int i = 0; i + 1 < n; i++)
		sorted[i].is_followed = sorted[i].shard == sorted[i + 1].shard && is_same_message(&sorted[i].message, &sorted[i + 1].message);
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
		item->message.offset < cell_of_message(progress, item->shard, &item->message)->stored.next_offset;
}

/* Notes that the shard of an item takes it. */
static void
take_item(PsShardProgress *progress, const PsApplyItem *item)
{
	ShardCell  *cell = cell_of_message(progress, item->shard, &item->message);
	int64		next = item->message.offset + !item->is_followed;	/* a transaction may end between two of a message */

	if (next <= cell->next.next_offset)
		return;
	cell->next.next_offset = next;
	if (!item->is_followed)
		cell->last = &item->message;
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
			if (elsewhere)
				items[to].outcome = PS_ELSEWHERE;
			else
				take_item(progress, &items[to]);
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

	forget_next(progress);
	for (int from = 0; from < n; from = to)
	{
		for (to = from + 1; to < n && items[to].shard == items[from].shard; to++)
			;
		apply_shard(worker, items + from, to - from, settings);
	}
}

/* The moves of a shard; how many. */
static int
moves_of_shard(const PsShardProgress *progress, int shard, PsShardMove *moves)
{
	int			n = 0;

	for (int t = 0; t < progress->ntopics; t++)
		for (int32 p = 0; p < progress->topics[t].npartitions; p++)
		{
			ShardCell  *cell = &progress->cells[shard * progress->nplaces + progress->topics[t].first + p];

			if (cell->last != NULL)
				cell->next.check = ps_topic_identity_fingerprint(cell->last);
			cell->last = NULL;
			if (cell->next.next_offset != cell->stored.next_offset || cell->next.seek_no != cell->stored.seek_no)
				moves[n++] = (PsShardMove)
			{
				progress->topics[t].name, p, cell->stored.next_offset, cell->next
			};
		}
	return n;
}

/* Stores what the shards have taken in this transaction. */
static void
store_next(PsWorker *worker)
{
	PsShardProgress *progress = worker->shards;
	PsShardMove *moves = palloc(Max(progress->nplaces, 1) * sizeof(PsShardMove));

	for (int shard = 0; shard < progress->nshards; shard++)
	{
		int			nmoves = ps_shards_is_here(shard) ? moves_of_shard(progress, shard, moves) : 0;

		if (nmoves == 0)
			continue;
		ps_shards_use(shard);
		ps_shard_offsets_move(worker->stream_id, moves, nmoves);
		ps_shards_use(PS_NO_SHARD);
	}
}

void
ps_shard_progress_store_begin(PsWorker *worker)
{
	if (worker->shards != NULL)
		store_next(worker);
}

void
ps_shard_progress_store(PsWorker *worker, const PsOffsetMove *node, int nnode, bool all)
{
	PsShardProgress *progress = worker->shards;

	for (int shard = 0; all && shard < progress->nshards; shard++)
		for (int i = 0; i < nnode; i++)
		{
			ShardCell  *cell = cell_here(worker, shard, node[i].topic_no, node[i].partition);

			if (cell == NULL || cell->next.next_offset >= node[i].next_offset)
				continue;
			cell->next.next_offset = node[i].next_offset;
			if (node[i].check.offset < 0)
				continue;
			cell->next.check = node[i].check;
			cell->last = NULL;
		}
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	store_next(worker);
	PopActiveSnapshot();
	SPI_finish();
}

void
ps_shard_progress_commit(PsWorker *worker)
{
	PsShardProgress *progress = worker->shards;

	for (int i = 0; progress != NULL && i < progress->nshards * progress->nplaces; i++)
		progress->cells[i].stored = progress->cells[i].next;
}
