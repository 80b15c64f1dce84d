/*
 * shard_topic.h
 *	  Whether the broker still has what a shard reads next, and whether the topic is still the one that
 *	  the shard has read. A shard brings its own offset and fingerprint: what another
 *	  shard of this node has read says nothing of it.
 */
#ifndef PS_SHARD_TOPIC_H
#define PS_SHARD_TOPIC_H

#include "ingest/worker.h"
#include "store/partition_catalog.h"
#include "store/shard_offsets.h"

/* What became of the shards of this node that cannot be read on in a partition. */
typedef struct PsShardLoss
{
	PsTaken		first;			/* the one that is the farthest behind */
	bool		recreated;		/* for one of them the topic is another one */
} PsShardLoss;

/* Whether there are such shards; low and high: what the broker has. */
extern bool ps_shard_topic_find_loss(PsWorker *worker, const PsStoredOffset *row, const PsLookupPartition *answer, PsShardLoss *loss);

/* Moves those shards to a target. */
extern void ps_shard_topic_jump(PsWorker *worker, const PsStoredOffset *row, const PsLookupPartition *answer, int64 target);

/* Where to begin to read a partition, so that the fingerprint of each shard is compared. */
extern int64 ps_shard_topic_begin(PsWorker *worker, const PsStoredOffset *row, int64 low);

/* Compares fingerprints with what was read; false when a topic is another one for a shard. */
extern bool ps_shard_topic_verify(PsWorker *worker, const PsIntake *intake);

/* Keeps of a progress that was read before for which shards topics were other ones. */
extern void ps_shard_topic_keep(PsWorker *worker, PsShardProgress *before);

#endif							/* PS_SHARD_TOPIC_H */
