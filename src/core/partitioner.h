/*
 * partitioner.h
 *	  Which partition producers choose for the key of a message.
 */
#ifndef PS_PARTITIONER_H
#define PS_PARTITIONER_H

#include "postgres.h"

typedef enum PsPartitioner
{
	PS_PARTITIONER_MURMUR2,		/* Java's default, and murmur2 and murmur2_random of librdkafka */
	PS_PARTITIONER_CONSISTENT,	/* consistent and consistent_random of librdkafka, which is its default */
	PS_PARTITIONER_CITUS		/* as Citus divides a table into as many shards as there are partitions */
} PsPartitioner;

/* The hash by which Citus chooses the shard of a text. */
extern int32 ps_partitioner_citus_hash(const char *key, int len);

/* The partitioner of that name; false when there is none. */
extern bool ps_partitioner_find(const char *name, PsPartitioner *partitioner);

/* The partition of a key that is not empty, of 1 partition or more. */
extern int32 ps_partitioner_choose(PsPartitioner partitioner, const char *key, int len, int32 npartitions);

#endif							/* PS_PARTITIONER_H */
