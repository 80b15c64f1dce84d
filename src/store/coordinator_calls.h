/*
 * coordinator_calls.h
 *	  Calls that define something on all nodes, as a stream or a metric. The coordinator
 *	  numbers them in its order. Each node keeps those that it has run. So none
 *	  runs twice, and a node that was added or was down gets those that it lacks.
 */
#ifndef PS_COORDINATOR_CALLS_H
#define PS_COORDINATOR_CALLS_H

#include "postgres.h"

/* A call of a function of the public schema. */
typedef struct PsCoordinatorCall
{
	int64		call_no;
	Datum		called_by;		/* a name: the role with whose rights it ran first, and runs everywhere */
	Datum		function;		/* a name */
	Datum		arguments;		/* a text[] of all of them, as the types write them */
	Datum		ids;			/* an int8[]: the numbers that a stream, a series and a map get next */
	const char *again;			/* how to make it again, where that is not as it was made; else NULL */
} PsCoordinatorCall;

/* Which role calls, with which numbers. */
extern void ps_coordinator_call_init(PsCoordinatorCall *call);

/* Adds a call to those of the coordinator, and numbers it. Waits for another one that is under way. */
extern void ps_coordinator_calls_add(PsCoordinatorCall *call);

/* The number that the call under way gets or has. Waits for another one that is under way. */
extern int64 ps_coordinator_calls_next(void);

/* Whether a node has run the call of the next number already, as this function with this second argument: then the other nodes must run it, too. */
extern bool ps_coordinator_calls_has_begun(const char *function, const char *second);

/* Runs a call on the worker nodes. Raises unless all of them have run it. */
extern void ps_coordinator_calls_send(const PsCoordinatorCall *call);

/* Runs all calls of the coordinator there, each where it has not run yet. */
extern void ps_coordinator_calls_send_all(void);

/* Runs a call that the coordinator sent, unless this node has run it. The function is one of distributed_gate.c. */
extern void ps_coordinator_calls_run(const PsCoordinatorCall *call);

/* The types write their values alike, whatever the session has set, until the end of the level that is returned. */
extern int	ps_coordinator_calls_settings(void);

/* Whether that is under way. */
extern bool ps_coordinator_calls_running(void);

#endif							/* PS_COORDINATOR_CALLS_H */
