/*
 * shard_call.h
 *	  Calls a function on the rows of one customer, where profiles are distributed.
 */
#ifndef PS_SHARD_CALL_H
#define PS_SHARD_CALL_H

#include "postgres.h"

#include "fmgr.h"

/*
 * Calls an SQL function on the node that has the shard of its customer. The first argument
 * is the customer's id, or a row that begins with it. The function must only read.
 */
extern Datum ps_shard_call(FunctionCallInfo fcinfo, PGFunction function);

/*
 * Calls a function of one argument on the node of a shard, which is another one, in a
 * transaction of its own there. Its result is not null: a value, or one row.
 */
extern Datum ps_shard_call_elsewhere(Oid function, int shard, Datum arg);

#endif							/* PS_SHARD_CALL_H */
