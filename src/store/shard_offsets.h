/*
 * shard_offsets.h
 *	  How far the shard in use has taken the partitions of a stream. The rows are in the
 *	  shard, so that they move with it, and are written in the transaction of its profiles.
 */
#ifndef PS_SHARD_OFFSETS_H
#define PS_SHARD_OFFSETS_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "store/partition_catalog.h"

#define PS_NOT_TAKEN INT64CONST(-1)

/* How far a shard has taken a partition. */
typedef struct PsTaken
{
	int64		next_offset;	/* PS_NOT_TAKEN: it has no row */
	int64		seek_no;		/* of the PsStreamSeek that has moved it last; 0: none has */
	PsFingerprint check;		/* of a message before next_offset */
} PsTaken;

/* The same and of which partition. The topic is named, because nodes number their topics as they find them. */
typedef struct PsShardOffset
{
	const char *topic;
	int32		partition;
	PsTaken		taken;
} PsShardOffset;

/* A change of it, stored if the row still has the expected offset. */
typedef struct PsShardMove
{
	const char *topic;
	int32		partition;
	int64		expected_offset;	/* PS_NOT_TAKEN: there is no row */
	PsTaken		taken;
} PsShardMove;

/* Reads what the shard has of a stream: a list of PsShardOffset. Raises when the shard was split. */
extern List *ps_shard_offsets_read(int stream_id);

/* Stores them. Raises ERRCODE_T_R_SERIALIZATION_FAILURE when a row is not as expected. */
extern void ps_shard_offsets_move(int stream_id, const PsShardMove *moves, int n);

/* Removes what the shard has of streams that were dropped, of which it may have come from a node that still had them. */
extern int64 ps_shard_offsets_forget_dropped(void *arg);

/* Where seek_stream() has moved a partition last. Its number grows with each call, and is the same on all nodes. */
typedef struct PsStreamSeek
{
	const char *topic;
	int32		partition;
	int64		seek_no;
	int64		next_offset;
} PsStreamSeek;

extern void ps_stream_seeks_add(int stream_id, const PsStreamSeek *seek);

/* A list of PsStreamSeek. */
extern List *ps_stream_seeks(int stream_id);

/* Makes start_offset of rows the least of all nodes, and read_offset the greatest of all nodes and shards. Asks all nodes. */
extern void ps_shard_offsets_widen(const char *stream, int stream_id, List *rows);

#endif							/* PS_SHARD_OFFSETS_H */
