/*
 * partition_catalog.h
 *	  Where each partition of a stream is read from. Every call needs an SPI
 *	  connection.
 */
#ifndef PS_PARTITION_CATALOG_H
#define PS_PARTITION_CATALOG_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* What a message is recognised by; the topic where another one is at its offset is another topic. */
typedef struct PsFingerprint
{
	int64		offset;			/* -1: none */
	TimestampTz timestamp;		/* Kafka's, DT_NOBEGIN when there is none */
	int64		hash;			/* of key and value */
} PsFingerprint;

typedef struct PsStoredOffset
{
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
extern void ps_stream_add_partition(int stream_id, int partition, int64 start_offset);

/* How many messages all partitions of a stream are behind, as far as that is known. */
extern int64 ps_stream_lag(int stream_id);

/* Notes the end of a partition, where the lag is measured from, when nothing was read that tells it. */
extern void ps_stream_note_end(int stream_id, int partition, int64 end_offset);

/* Shows that a message cannot be read; with the next move of the offset it is forgotten. */
extern void ps_stream_note_refused(int stream_id, int partition, const char *error);

/* Stops a partition; when its topic is another one now, what comes later is of another epoch. */
extern void ps_stream_lose_partition(int stream_id, int partition, const char *error, bool new_epoch);

/* Where a partition goes on that cannot be read where it stood. */
typedef struct PsJump
{
	int64		from_offset;
	int64		to_offset;
	int64		held;			/* afterwards */
	bool		new_epoch;		/* the topic is another one */
	const char *reason;
} PsJump;

/* Goes on from another position, and records the gap. */
extern void ps_stream_jump(int stream_id, const PsStoredOffset *after, const PsJump *jump);

/* Moves a partition that nobody reads, adding its row when it has none, and records the gap. */
extern void ps_stream_seek(int stream_id, int partition, int64 to_offset, bool new_epoch);

/* Whether every partition has reached ends[partition]; PG_INT64_MIN: not waited for. */
extern bool ps_stream_reached(int stream_id, const int64 *ends, int n);

#endif							/* PS_PARTITION_CATALOG_H */
