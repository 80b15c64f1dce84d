/*
 * shard_progress.h
 *	  How far the shards of this node have taken the partitions of the worker. Every worker
 *	  reads all messages of its partitions, and applies those of shards that are here.
 *
 *	  elsewhere	a message of a shard on another node, or one that its shard has taken already,
 *				before it came here
 */
#ifndef PS_SHARD_PROGRESS_H
#define PS_SHARD_PROGRESS_H

#include "apply/apply.h"
#include "ingest/worker.h"
#include "store/offsets.h"

/*
 * Reads what the shards have taken, when partitions are to be assigned. Returns whether
 * this worker reads at all: it need not where there are no shards.
 */
extern bool ps_shard_progress_read(PsWorker *worker, const PsLookup *lookup);

/*
 * Says where the shards begin that have taken nothing of a partition: where this node does, or at the first offset where
 * they have taken other partitions of the topic, or other topics that match, because then it is new. Those that seek_stream()
 * has moved go where it says.
 */
extern void ps_shard_progress_begin(PsWorker *worker, const PsStoredOffset *row, int64 low);

/* Stores that, and what shard_topic.c has changed: a shard begins, or is moved, once, whichever node has it later. */
extern void ps_shard_progress_store_begin(PsWorker *worker);

/* The first message of a partition that a shard of this node has not taken; without shards that of the row. */
extern int64 ps_shard_progress_first(PsWorker *worker, const PsStoredOffset *row);

/* Moves a row of stream_offsets there; high: the end of the partition. A row whose offset was lost runs again. */
extern void ps_shard_progress_align(PsWorker *worker, PsStoredOffset *row, int64 high);

/* Gives up the partitions when shards may have come or left while nothing was read. */
extern void ps_shard_progress_turn(PsWorker *worker);

/* Whether all shards are on other nodes, so that the worker has nothing to read. */
extern bool ps_shard_progress_is_elsewhere(const PsWorker *worker);

/*
 * Notes the shard of an item, if its key or partition says it. If another node has that shard, the
 * item is PS_ELSEWHERE: this node need not decode it.
 */
extern void ps_shard_progress_note_shard(const PsWorker *worker, PsApplyItem *item);

/* Sorts decoded items by their shards, in their order. */
extern void ps_shard_progress_sort(PsWorker *worker, PsApplyItem *items, int n);

/*
 * In a transaction: keeps the shards here, or gives the transaction up when others are
 * here than the worker knows.
 */
extern void ps_shard_progress_fence(PsWorker *worker);

/* Applies sorted items. */
extern void ps_shard_progress_apply(PsWorker *worker, PsApplyItem *items, int n, const PsApplySettings *settings);

/* Stores how far the shards are, with the moves of the node's own offsets; with all, also of shards that had no message. */
extern void ps_shard_progress_store(PsWorker *worker, const PsOffsetMove *moves, int nmoves, bool all);

/* After the commit. */
extern void ps_shard_progress_commit(PsWorker *worker);

#endif							/* PS_SHARD_PROGRESS_H */
