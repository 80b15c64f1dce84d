/*
 * shard_offsets.h
 *	  How far the shard in use has taken the partitions of a stream. The rows are in the
 *	  shard, so that they move with it, and are written in the transaction of its profiles.
 */
#ifndef PS_SHARD_OFFSETS_H
#define PS_SHARD_OFFSETS_H

#include "postgres.h"

#define PS_NOT_TAKEN INT64CONST(-1)

/* The next offset of one partition, stored if the row still has the expected one. */
typedef struct PsShardMove
{
	int32		partition;
	int64		expected_offset;	/* PS_NOT_TAKEN: there is no row */
	int64		next_offset;
} PsShardMove;

/* Reads the next offsets of n partitions; leaves alone those that the shard has none of. Raises when the shard was split. */
extern void ps_shard_offsets_read(int stream_id, int64 *next_offsets, int n);

/* Stores them. Raises ERRCODE_T_R_SERIALIZATION_FAILURE when a row is not as expected. */
extern void ps_shard_offsets_move(int stream_id, const PsShardMove *moves, int n);

#endif							/* PS_SHARD_OFFSETS_H */
