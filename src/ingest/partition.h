/*
 * partition.h
 *	  The partitions that are assigned to a worker.
 */
#ifndef PS_PARTITION_H
#define PS_PARTITION_H

#include "core/offset_set.h"
#include "core/timeline.h"
#include "ingest/worker.h"
#include "store/partition_catalog.h"

/* Bound of a partition's marks in stream_offsets, one bit for each event behind the one that waits longest. */
#define PS_MAX_HELD_SPAN (8 * 1000 * 1000)

/* Bound of the marks in memory: a broker can name any offset, and compaction can leave long gaps. */
#define PS_MAX_MARKED_SPAN (INT64CONST(1) << 28)

struct PsPartition
{
	int32		topic_no;
	int32		partition;
	int32		epoch;			/* how often the topic was created anew */
	int64		stored_offset;	/* next_offset as stored */
	int64		commits;		/* as stored */
	int64		read_before;	/* what is before it was read before the partition was assigned */
	int64		read_stored;	/* read_offset as stored */

	/* topic_identity.c */
	PsFingerprint check;		/* as stored */
	bool		unverified;		/* the message of check was not read again yet */
	bool		recreated;		/* another message came in its place: the topic is another one */
	bool		suspect;		/* nothing more is taken of it until it is assigned again */
	int64		low;			/* first offset of the topic when the partition was assigned */
	int64		read_when_asked;	/* offsets.read when the look-up under way began */

	/* unreadable.c: what its row says of a batch of messages that librdkafka cannot read */
	int64		unreadable_offset;
	int64		unreadable_said_at; /* stored_offset + 1 when it was said; 0: it does not say it */

	/* progress.c */
	PsOffsetSet offsets;		/* what is read and what is finished */
	bool		is_barred;		/* an offset was too far away: what comes is read again once all before is finished */
	int64		unfinished_bytes;	/* size of the messages that are read and not finished */
	PsCounts	counts;			/* consumed and replayed since the last commit */

	/* lag.c */
	PsTimeline	timeline;		/* of the messages that were read */
	TimestampTz last_at;		/* Kafka timestamp of the last message that was applied; DT_NOBEGIN: none was */
	TimestampTz caught_up_at;	/* when all of its messages were applied, the last time; DT_NOBEGIN: not seen */
};

/* The partition of that number of a topic, NULL when it is not assigned. */
extern PsPartition *ps_partition_find(PsWorker *worker, int32 topic_no, int32 partition);

#endif							/* PS_PARTITION_H */
