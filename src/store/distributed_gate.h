/*
 * distributed_gate.h
 *	  What SQL functions do where profiles are distributed:
 *
 *	  here			they work with what this node has
 *	  everywhere	they are called on the coordinator and run on all nodes, in the same
 *					order: so all have the same definitions, with the same numbers
 *	  of a customer	they read where the shard of their customer is
 *	  refused		all others that change something
 */
#ifndef PS_DISTRIBUTED_GATE_H
#define PS_DISTRIBUTED_GATE_H

#include "postgres.h"

#include "fmgr.h"
#include "store/coordinator_calls.h"

/* Calls an SQL function of the extension as it is to be called here, or raises. */
extern Datum ps_distributed_gate(FunctionCallInfo fcinfo, PGFunction function);

/* Runs a call that the coordinator sent; raises for a function that does not run everywhere. */
extern void ps_distributed_gate_run(const PsCoordinatorCall *call);

#endif							/* PS_DISTRIBUTED_GATE_H */
