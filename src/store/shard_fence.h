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

#endif							/* PS_SHARD_FENCE_H */
