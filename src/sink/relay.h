/*
 * relay.h
 *	  The processes that deliver what a stream has for its sinks.
 */
#ifndef PS_RELAY_H
#define PS_RELAY_H

#include "clock.h"
#include "process/bgworker.h"
#include "process/logged_reasons.h"
#include "sink/sink.h"
#include "store/stream_catalog.h"

typedef struct PsRelay
{
	int			stream_id;
	MemoryContext context;
	MemoryContext turn_context; /* of one turn of the loop */
	MemoryContext stream_context;	/* of the stream, replaced when that is read again; NULL at first */
	MemoryContext batch_context;
	PsStream   *stream;			/* NULL: never read */
	PsSink	   *sink;
	int			nitems;			/* on their way */
	int			failures;		/* in a row */
	bool		needs_restart;	/* another process has to go on, at the next attempt */
	bool		drained;		/* the last batch took all that was pending */
	PsMoment	taken_at;		/* when the last batch was */
	PsMoment	next_move;
	PsMoment	next_attempt;
	bool		connecting;
	bool		connected;		/* so that nothing is wrong while there is nothing to deliver */
	bool		shown;			/* that it is well, since the process began */
	char	   *error;			/* as last shown, NULL: none */
	PsLoggedReasons logged;		/* what the log has since nothing was wrong */
} PsRelay;

/* A transaction with SPI and a snapshot, when nobody is just taking what was to be delivered away. */
extern void ps_relay_begin(PsRelay *relay);
extern void ps_relay_commit(PsRelay *relay);

/*
 * Shows that nothing is wrong, in a state that is idle or running; in a transaction.
 * After an error that is a line of the log.
 */
extern void ps_relay_show_well(PsRelay *relay, const char *state);

/* Whether this error is shown. */
extern bool ps_relay_shows(const PsRelay *relay, const char *error);

/* Shows why nothing is delivered, and when it is tried again, -1: all the time. */
extern void ps_relay_show_error(PsRelay *relay, const char *error, const char *hint, int64 next_attempt_ms);

/* The same, and waits longer each time. */
extern void ps_relay_back_off(PsRelay *relay, const char *error, const char *hint);

/*
 * Leaves the machine to a stream that is behind: who changes again meanwhile is
 * delivered once. Within the transaction after a batch.
 */
extern void ps_relay_rest(PsRelay *relay);

#endif							/* PS_RELAY_H */
