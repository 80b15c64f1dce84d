/*
 * cluster_calls.h
 *	  The calls that ran on all nodes, numbered in the order in which the coordinator ran
 *	  them. Each node has those that it has run, so that one is never run twice, and a node
 *	  that was added or was down gets those that it has not.
 */
#ifndef PS_CLUSTER_CALLS_H
#define PS_CLUSTER_CALLS_H

#include "postgres.h"

/* The numbers that streams, series and maps get next: an int8[]. */
extern Datum ps_cluster_calls_ids(void);

/* Adds a call to those of the coordinator; returns its number. Waits for another one that is under way. */
extern int64 ps_cluster_calls_add(const char *call, Datum ids);

/* Runs a call on the worker nodes. Raises unless all of them have run it. */
extern void ps_cluster_calls_send(int64 call_no, const char *call, Datum ids);

/* Runs all calls of the coordinator there, each where it has not run yet. */
extern void ps_cluster_calls_send_all(void);

/* Runs a call that the coordinator sent, unless this node has run it. */
extern void ps_cluster_calls_run(int64 call_no, const char *call, Datum ids);

/* Whether that is under way. */
extern bool ps_cluster_calls_running(void);

#endif							/* PS_CLUSTER_CALLS_H */
