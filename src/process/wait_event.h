/*
 * wait_event.h
 *	  What our processes wait for, as pg_stat_activity names it from PostgreSQL 17 on.
 */
#ifndef PS_WAIT_EVENT_H
#define PS_WAIT_EVENT_H

#include "postgres.h"

/* X(symbol, name); doc/monitoring.md has the same names */
#define PS_WAIT_EVENTS(X) \
	X(PS_WAIT_MESSAGES, "ProfileStreamMessages")	/* a worker, for messages of Kafka */ \
	X(PS_WAIT_NEXT_ATTEMPT, "ProfileStreamNextAttempt")	/* any process, after an error */ \
	X(PS_WAIT_PREDECESSOR, "ProfileStreamPredecessor")	/* a process, until the one before it has left */ \
	X(PS_WAIT_CHANGES, "ProfileStreamChanges")	/* a relay, for something to deliver */ \
	X(PS_WAIT_SINK, "ProfileStreamSink")	/* a relay, for an answer of its sink */ \
	X(PS_WAIT_DATABASES, "ProfileStreamDatabases")	/* the launcher, for databases to scan */ \
	X(PS_WAIT_BROKER, "ProfileStreamBroker")	/* any process, for an answer of the broker */ \
	X(PS_WAIT_STREAM, "ProfileStreamStream")	/* a session, for what a stream shall do */

#define PS_WAIT_SYMBOL(symbol, name) symbol,
typedef enum PsWait
{
	PS_WAIT_EVENTS(PS_WAIT_SYMBOL)
	PS_WAITS
} PsWait;

/* The event for WaitLatch(). */
extern uint32 ps_wait_event(PsWait wait);

#endif							/* PS_WAIT_EVENT_H */
