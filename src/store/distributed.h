/*
 * distributed.h
 *	  Whether tables of ours are distributed by Citus. Their rows are then in shards,
 *	  on this node or others, and what is written into the table by hand is written
 *	  where nobody reads.
 */
#ifndef PS_DISTRIBUTED_H
#define PS_DISTRIBUTED_H

#include "postgres.h"

/* Raises when one of the tables that are written is distributed. */
extern void ps_distributed_check(void);

#endif							/* PS_DISTRIBUTED_H */
