/*
 * shard_offsets.h
 *	  How far the shard in use has taken the partitions of a stream. The rows are in the
 *	  shard, so that they move with it, and are written in the transaction of its profiles.
 */
#ifndef PS_SHARD_OFFSETS_H
#define PS_SHARD_OFFSETS_H

#include "postgres.h"

#include "nodes/pg_list.h"

#define PS_NOT_TAKEN INT64CONST(-1)

/* How far a shard has taken a partition. The topic is named, because nodes number their topics as they find them. */
typedef struct PsShardOffset
{
	const char *topic;
	int32		partition;
	int64		next_offset;
} PsShardOffset;

/* The next offset of one partition, stored if the row still has the expected one. */
typedef struct PsShardMove
{
	const char *topic;
	int32		partition;
	int64		expected_offset;	/* PS_NOT_TAKEN: there is no row */
	int64		next_offset;
} PsShardMove;

/* Reads what the shard has of a stream: a list of PsShardOffset. Raises when the shard was split. */
extern List *ps_shard_offsets_read(int stream_id);

/* Stores them. Raises ERRCODE_T_R_SERIALIZATION_FAILURE when a row is not as expected. */
extern void ps_shard_offsets_move(int stream_id, const PsShardMove *moves, int n);

#endif							/* PS_SHARD_OFFSETS_H */
