/*
 * partition_catalog.h
 *	  The stored progress of the partitions of a stream. Every call needs an SPI
 *	  connection.
 */
#ifndef PS_PARTITION_CATALOG_H
#define PS_PARTITION_CATALOG_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "message.h"
#include "nodes/pg_list.h"

/* Fingerprint of a message. When another message is at its offset, the topic was re-created. */
typedef struct PsFingerprint
{
	int64		offset;			/* -1: none */
	TimestampTz timestamp;		/* Kafka's timestamp; DT_NOBEGIN: none */
	int64		hash;			/* of key and value */
} PsFingerprint;

/* Reads a fingerprint, whose columns of a row begin at this one. */
extern PsFingerprint ps_fingerprint_read(HeapTuple tuple, TupleDesc desc, int column);

typedef struct PsStoredOffset
{
	char	   *topic;
	int32		topic_no;
	int32		partition;
	int32		epoch;
	int64		start_offset;
	int64		next_offset;
	int64		read_offset;
	int64		commits;
	bytea	   *finished;		/* marks of core/offset_set, from next_offset on */
	PsFingerprint check;
	bool		lost;
} PsStoredOffset;

extern List *ps_stream_offsets(int stream_id);
extern void ps_stream_add_partition(int stream_id, const PsPosition *start);

/* The lag of all partitions of a stream, in messages, as far as it is known. */
extern int64 ps_stream_lag(int stream_id);

/* Stores the end of a partition, from which the lag is computed, when no message was read that would store it. */
extern void ps_stream_note_end(int stream_id, const PsPosition *end);

/* Stores the error of a message that cannot be read. The next move of the offset removes it. */
extern void ps_stream_note_refused(int stream_id, int32 topic_no, int32 partition, const char *error);

/* Stops a partition. When its topic was re-created, later messages have another epoch. */
extern void ps_stream_lose_partition(int stream_id, const PsStoredOffset *row, const char *error, bool new_epoch);

/* The position where reading continues when a partition cannot be read at its offset. */
typedef struct PsJump
{
	int64		expected_offset;	/* that the row has */
	int64		from_offset;	/* of the gap */
	int64		to_offset;
	int64		held;			/* messages that are still held afterwards */
	bool		new_epoch;		/* the topic was re-created */
	const char *reason;
} PsJump;

/* Moves a partition to another position, and records the gap. */
extern void ps_stream_jump(int stream_id, const PsStoredOffset *after, const PsJump *jump);

/*
 * Moves a row that this process holds to another offset, without a gap, because the shards that are here have taken what
 * is before. A row whose offset was lost runs again. new_epoch: its topic was re-created.
 */
extern void ps_stream_align(int stream_id, PsStoredOffset *row, int64 next_offset, bool new_epoch);

/* The same in memory alone. */
extern void ps_stored_offset_move(PsStoredOffset *row, int64 next_offset);

/* The same for a partition that no worker reads; adds its row when there is none. */
extern void ps_stream_seek(int stream_id, const PsPosition *to, bool new_epoch);

/* Whether a partition of the stream of that name has held events, and no process reads it. */
extern bool ps_stream_has_unread(const char *name);

/* The end of a partition. */
typedef struct PsPartitionEnd
{
	const char *topic;
	int32		partition;
	int64		offset;
} PsPartitionEnd;

/* Whether the partitions have reached these ends. */
extern bool ps_stream_reached(int stream_id, const PsPartitionEnd *ends, int n);

/* The same of all nodes of distributed profiles, each for the partitions that it reads. Has the caller's rights. Raises when a node does not answer. */
extern bool ps_stream_reached_on_nodes(const char *name, const PsPartitionEnd *ends, int n);

#endif							/* PS_PARTITION_CATALOG_H */
