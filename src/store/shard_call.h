/*
 * shard_call.h
 *	  Calls a function on the rows of one customer, where profiles are distributed.
 */
#ifndef PS_SHARD_CALL_H
#define PS_SHARD_CALL_H

#include "postgres.h"

#include "fmgr.h"

/*
 * Calls an SQL function, whose first argument is the id of a customer or a row that begins
 * with it, where the shard of the customer is. It must only read.
 */
extern Datum ps_shard_call(FunctionCallInfo fcinfo, PGFunction function);

#endif							/* PS_SHARD_CALL_H */
