/*
 * distributed.h
 *	  Whether Citus has distributed a table of the extension. Its rows are then in
 *	  shards, and no query would see a row that we write into the table directly.
 *
 *	  The store checks this around each statement and whenever it opens a table, so
 *	  that its callers need not: before, to say so early, and again once the table is
 *	  locked, because Citus may have distributed it while we waited.
 *
 *	  distributed	the tables of profiles were distributed by distribute(): their shards
 *					are read and written one at a time, see shards.h. Where others did it
 *					the store refuses
 */
#ifndef PS_DISTRIBUTED_H
#define PS_DISTRIBUTED_H

#include "postgres.h"

/* The tables that distribute() distributes, all by the same hash of customer_id, or of slot where there is none. */
typedef enum PsSharded
{
	PS_SHARDED_PROFILES,
	PS_SHARDED_CHUNKS,
	PS_SHARDED_EVENT_IDS,
	PS_SHARDED_OFFSETS,
	PS_SHARDED_SEGMENT_CHANGES,
	PS_SHARDED_SCORE_PASSES,
	PS_SHARDED_MEMBERS,
	PS_SHARDED_CHECKS,
	PS_SHARDED_FILLS,
	PS_SHARDED_COUNTS,
	PS_SHARDED_OUTBOX,
	PS_SHARDED_PENDING,
	PS_SHARDED_TABLES
} PsSharded;

typedef struct PsShardedTable
{
	const char *schema;
	const char *name;
} PsShardedTable;

extern const PsShardedTable ps_sharded_tables[PS_SHARDED_TABLES];

/* The table of that name, or PS_SHARDED_TABLES when it is not one of these. */
extern PsSharded ps_sharded_find(const char *name, int len);

/* Whether distribute() distributes a table when it is called. */
extern bool ps_distributed_by_us(Oid relid);

/* Whether distribute() was called. Needs a transaction. */
extern bool ps_distributed(void);

/* The same as it was when somebody asked last. Needs none: between transactions the catalogue cannot be read. */
extern bool ps_distributed_lately(void);

/*
 * Raises when the table is distributed; with InvalidOid, when any table of the extension
 * is that distribute() does not distribute.
 */
extern void ps_distributed_check(Oid relid);

/* The same for a table of ps_sharded_tables that a statement names. */
extern void ps_distributed_refuse_table(PsSharded table);

/* Raises where distribute() was called, because this does not work there. */
extern void ps_distributed_refuse(const char *what);

#endif							/* PS_DISTRIBUTED_H */
