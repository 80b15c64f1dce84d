/*
 * shards.h
 *	  The shards of distributed profiles, as Citus' catalogue has them on this node. One of
 *	  them is in use: the process works on it at the moment. A customer is in one shard of
 *	  each table; these have the same number and are on the same node.
 *
 *	  here		the shard is on this node: its tables are read and written as local ones
 *	  slot		a text that belongs to the shard. Rows of a shard that have no customer
 *				are stored under it, and so move with the shard
 */
#ifndef PS_SHARDS_H
#define PS_SHARDS_H

#include "postgres.h"

#include "store/distributed.h"

#define PS_NO_SHARD (-1)

/* How many shards there are. Reads the catalogue again where it may have changed. */
extern int	ps_shards_count(void);

/* Whether the catalogue may say something else than ps_shards_count() has read. */
extern bool ps_shards_are_stale(void);

/* Looks whether other shards are on this node than were read, and reads them again if so. */
extern void ps_shards_look(void);

/* Grows whenever shards have come to this node or left it, as far as the catalogue was read. */
extern uint64 ps_shards_changes(void);

/* How often the catalogue was read. In between no shard has left this node and come back. */
extern uint64 ps_shards_reads(void);

/* The shard of a customer or slot; outside of transactions as it was read last. */
extern int	ps_shards_find(const char *text, int len);
extern bool ps_shards_is_here(int shard);

/* Whether any shard is on this node. */
extern bool ps_shards_any_here(void);
extern const char *ps_shards_slot(int shard);

/* The hashes of a shard's customers, as its row of stream 0 in shard_offsets has them. */
extern char *ps_shards_range(int shard);

/* The first shard that is on the same node as a shard. */
extern int	ps_shards_first_beside(int shard);

/* Whether this node is the coordinator. */
extern bool ps_shards_on_coordinator(void);

/* The group of this node; that of the coordinator is 0. */
extern int32 ps_shards_group(void);

/* Number of a table of a shard in the catalogue. */
extern int64 ps_shards_id(int shard, PsSharded table);

/* The node of a shard, host:port, for an error. */
extern char *ps_shards_node(int shard);

/* The shard on which this process works from now on, or PS_NO_SHARD. At the end of a transaction it is none. */
extern void ps_shards_use(int shard);

/* The same with the shard of a customer if it is here, else none. Where profiles are not distributed nothing happens. */
extern void ps_shards_use_customer(const char *customer_id, int len);
extern int	ps_shards_used(void);

#endif							/* PS_SHARDS_H */
