/*
 * shard_state.h
 *	  What a worker knows of the shards; for shard_progress.c and shard_topic.c alone.
 */
#ifndef PS_SHARD_STATE_H
#define PS_SHARD_STATE_H

#include "ingest/worker.h"
#include "store/shard_offsets.h"
#include "store/shards.h"

/* A partition in a shard. */
typedef struct ShardCell
{
	PsTaken		stored;
	PsTaken		next;			/* the same after this transaction */
	const PsMessage *last;		/* the last message before next that the shard has taken in this transaction; NULL:
								 * none */
	bool		unverified;		/* the message of its fingerprint was not read again yet */
	bool		recreated;		/* another message came in its place: the topic is another one */
} ShardCell;

/* A topic, as the broker had it when the offsets were read; its partitions have the places from first on. */
typedef struct ShardTopic
{
	int32		topic_no;
	const char *name;
	int			first;
	int			npartitions;
} ShardTopic;

struct PsShardProgress
{
	MemoryContext context;
	uint64		changes;		/* ps_shards_changes() when it was read */
	int			nshards;
	ShardTopic *topics;
	int			ntopics;
	int			nplaces;
	ShardCell  *cells;			/* by shard and place */
	PsTaken    *seeks;			/* by place: where seek_stream() has moved the partition last */
	bool	   *matches;		/* by shard: it has taken a topic that the pattern of the stream matches */
	int			nunverified;	/* cells */
};

static inline const ShardTopic *
topic_of_progress(const PsShardProgress *progress, int32 topic_no)
{
	for (int t = 0; t < progress->ntopics; t++)
		if (progress->topics[t].topic_no == topic_no)
			return &progress->topics[t];
	return NULL;
}

/* A partition in a shard; NULL where the broker did not have the partition. */
static inline ShardCell *
cell_of_shard(const PsShardProgress *progress, int shard, int32 topic_no, int32 partition)
{
	const ShardTopic *topic = topic_of_progress(progress, topic_no);

	if (topic == NULL || partition >= topic->npartitions)
		return NULL;
	return &progress->cells[shard * progress->nplaces + topic->first + partition];
}

/* The same where the shard is here, and has messages in the partition; else NULL. */
static inline ShardCell *
cell_here(const PsWorker *worker, int shard, int32 topic_no, int32 partition)
{
	if (!ps_shards_is_here(shard) || (shard != partition && ps_stream_goes_by_partition(worker->stream)))
		return NULL;
	return cell_of_shard(worker->shards, shard, topic_no, partition);
}

#endif							/* PS_SHARD_STATE_H */
