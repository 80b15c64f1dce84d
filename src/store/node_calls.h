/*
 * node_calls.h
 *	  Calls of functions that Citus' nodes run at the same time, each on what it has of
 *	  distributed profiles. Unlike those of cluster_calls.h they are not kept.
 */
#ifndef PS_NODE_CALLS_H
#define PS_NODE_CALLS_H

#include "postgres.h"

/* Runs a call on this node, and returns its result as jsonb, or null. Needs SPI. */
extern Datum ps_node_call_run(const char *call, bool *isnull);

/* Whether that is under way: then a function means this node alone. */
extern bool ps_node_call_is_running(void);

#endif							/* PS_NODE_CALLS_H */
