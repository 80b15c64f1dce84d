/*
 * offsets.h
 *	  Progress of the partitions, in the transaction of the data.
 */
#ifndef PS_OFFSETS_H
#define PS_OFFSETS_H

#include "message.h"
#include "store/partition_catalog.h"

/* One partition's progress, moved by a compare-and-set on next_offset and commits. */
typedef struct PsOffsetMove
{
	int32		partition;
	int32		epoch;
	int64		expected_offset;	/* what stream_offsets must hold */
	int64		expected_commits;	/* likewise */
	int64		next_offset;
	int64		read_offset;	/* everything before was read once */
	const bytea *finished;		/* marks of core/offset_set, from next_offset on */
	int64		held;
	int64		held_bytes;		/* of those among them that are in memory */
	int64		end_offset;		/* end of the partition as last seen, -1 unknown */
	PsFingerprint check;		/* as stored from now on */
	TimestampTz last_message_at;	/* Kafka timestamp of the last message, or DT_NOBEGIN */
	PsCounts	counts;			/* to be added */
} PsOffsetMove;

/* Moves every row, or raises ERRCODE_T_R_SERIALIZATION_FAILURE: another worker took over. */
extern void ps_offsets_move(int stream_id, const PsOffsetMove *moves, int n, TimestampTz now);

#endif							/* PS_OFFSETS_H */
