/*
 * offsets.h
 *	  Stores the progress of partitions, in the transaction of the data.
 */
#ifndef PS_OFFSETS_H
#define PS_OFFSETS_H

#include "core/source_counts.h"
#include "message.h"
#include "store/partition_catalog.h"

/* The progress of one partition, stored if the row still has the expected next_offset and commits. */
typedef struct PsOffsetMove
{
	int32		topic_no;
	int32		partition;
	int32		epoch;
	int64		expected_offset;	/* next_offset that the row must have */
	int64		expected_commits;	/* commits that it must have */
	int64		next_offset;
	int64		read_offset;	/* every message before it was read */
	const bytea *finished;		/* marks of core/offset_set from next_offset on */
	int64		held;
	int64		held_bytes;		/* memory that they take; those that wait to be read again take none */
	int64		end_offset;		/* end of the partition when it was last seen; -1: unknown */
	PsFingerprint check;		/* fingerprint of the last message */
	TimestampTz last_message_at;	/* Kafka timestamp of the last message; DT_NOBEGIN: none */
	PsCounts	counts;			/* to be added to those of the row */
	PsSourceCounts sources;		/* likewise, of the events that were applied */
} PsOffsetMove;

/* Updates every row. Raises ERRCODE_T_R_SERIALIZATION_FAILURE when one is not as expected: another worker has taken over. */
extern void ps_offsets_move(int stream_id, const PsOffsetMove *moves, int n, TimestampTz now);

#endif							/* PS_OFFSETS_H */
