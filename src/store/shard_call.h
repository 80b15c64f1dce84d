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

/* Calls the function that is called on the node of a shard, which is another one, with the same arguments. It may write there. */
extern Datum ps_shard_call_there(FunctionCallInfo fcinfo, int shard);

/*
 * Calls a function with arguments on the node of a shard, which is another one, in a transaction of
 * its own there. Its result is not null: a value, or one row.
 */
extern Datum ps_shard_call_elsewhere(Oid function, int shard, const NullableDatum *args, bool read_only);

#endif							/* PS_SHARD_CALL_H */
