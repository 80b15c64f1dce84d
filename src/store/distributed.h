/*
 * distributed.h
 *	  Whether Citus has distributed a table of the extension. Its rows are then in
 *	  shards, and no query would see a row that we write into the table directly.
 *
 *	  The store checks this around each statement and whenever it opens a table, so
 *	  that its callers need not: before, to say so early, and again once the table is
 *	  locked, because Citus may have distributed it while we waited.
 */
#ifndef PS_DISTRIBUTED_H
#define PS_DISTRIBUTED_H

#include "postgres.h"

/* Raises when the table is distributed; with InvalidOid, when any table of the extension is. */
extern void ps_distributed_check(Oid relid);

#endif							/* PS_DISTRIBUTED_H */
