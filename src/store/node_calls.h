/*
 * node_calls.h
 *	  A question to all nodes of distributed profiles: each runs the same function on its
 *	  own customers, and the results are put together. Nothing is kept of it. Definitions,
 *	  which every node needs in the same order, are calls of coordinator_calls.h.
 */
#ifndef PS_NODE_CALLS_H
#define PS_NODE_CALLS_H

#include "postgres.h"

/* Runs a call on this node, and returns its result as jsonb, or null. Needs SPI. */
extern Datum ps_node_call_run(const char *call, bool *isnull);

/* Whether that is under way: then a function means this node alone. */
extern bool ps_node_call_is_running(void);

/* Calls a procedure, which returns a number, on all nodes at the same time; returns the sum, or raises. Needs SPI and no snapshot. */
extern int64 ps_node_procedure_run(const char *call);

/*
 * Has all nodes refresh segments (NULL: all) at the same time, each in transactions of its own. Returns how many shards a
 * node has seen whole. Errors of nodes and errors of segments are one text each, NULL: none. Needs SPI.
 */
extern int64 ps_nodes_refresh_segments(const char *name, int batch, char **unreached, char **failed);

#endif							/* PS_NODE_CALLS_H */
