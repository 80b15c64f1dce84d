/*
 * shard_fence.h
 *	  Keeps shards on this node while a transaction writes them.
 */
#ifndef PS_SHARD_FENCE_H
#define PS_SHARD_FENCE_H

#include "postgres.h"

/*
 * Takes the lock that a move of a shard waits for, of all shards that are here, until the
 * transaction ends. Afterwards shards.h says for certain which ones are here.
 */
extern void ps_shard_fence(void);

/*
 * Runs a step on the tables of profiles; where these are distributed, one after the other on
 * those of each shard that is here. Returns the sum of the results.
 */
typedef int64 (*PsShardStep) (void *arg);
extern int64 ps_each_shard(PsShardStep step, void *arg);

/* Works on the shard of a customer, if it is here, until ps_shards_use() is called or the transaction ends. */
extern void ps_shard_fence_customer(const char *customer_id, int len);

/* Keeps the shards here, and works on that one whose profiles have this number, until the transaction ends; false: it is not here. */
extern bool ps_shard_fence_use(int64 id);

/* Raises when a shard, that of a customer, is on another node. */
extern void ps_shard_check_here(int shard, const char *customer_id);

/* Keeps the shard of a customer here until the transaction ends; raises when it is on another node. */
extern void ps_shard_keep_customer(const char *customer_id, int len);

#endif							/* PS_SHARD_FENCE_H */
