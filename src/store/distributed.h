/*
 * distributed.h
 *	  Whether Citus has distributed a table of the extension. Its rows are then in
 *	  shards, and no query would see a row that we write into the table directly.
 */
#ifndef PS_DISTRIBUTED_H
#define PS_DISTRIBUTED_H

#include "postgres.h"

/* Whether Citus is installed, so that a table may be distributed. */
extern bool ps_distributed_is_possible(void);

/* Raises when a table that we write is distributed. */
extern void ps_distributed_check(void);

#endif							/* PS_DISTRIBUTED_H */
