/*
 * relay.h
 *	  A relay: the background worker that delivers to one sink of a stream.
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
	MemoryContext stream_context;	/* of the stream, replaced when the stream is read again; NULL at first */
	MemoryContext batch_context;
	PsStream   *stream;			/* NULL: not read yet */
	PsSink	   *sink;
	int			nitems;			/* of the batch that is being sent; 0: none is */
	int			failures;		/* in a row */
	bool		needs_restart;	/* the process ends at the next attempt, for a new one to go on */
	bool		drained;		/* the last batch took everything that was pending */
	PsMoment	taken_at;		/* begin of the last batch */
	PsMoment	next_move;
	PsMoment	next_attempt;
	bool		counted;		/* the start of this process, in process_counters */
	bool		connecting;
	bool		connected;		/* also while there is nothing to deliver */
	bool		shown;			/* this process has shown once that nothing is wrong */
	uint64		owned;			/* ps_shards_reads() when all that is pending was this node's; see takeover.h */
	uint64		looked;			/* the same when others were found, which are shut out now */
	bool		taking_over;
	char	   *error;			/* as stat_sinks shows it; NULL: none */
	PsLoggedReasons logged;		/* since the sink last worked */
} PsRelay;

/* Begins and commits a transaction with SPI and a snapshot. It waits while a session alters or drops the stream. */
extern void ps_relay_begin(PsRelay *relay);
extern void ps_relay_commit(PsRelay *relay);

/*
 * Shows in stat_sinks that nothing is wrong: the state is idle or running. Needs a
 * transaction. After an error the log gets a line.
 */
extern void ps_relay_show_well(PsRelay *relay, PsStreamState state);

/* Whether stat_sinks shows this error. */
extern bool ps_relay_shows(const PsRelay *relay, const char *error);

/* Shows why nothing is delivered, and in how many milliseconds the next attempt is; -1: it goes on without a pause. */
extern void ps_relay_show_error(PsRelay *relay, const char *error, const char *hint, int64 next_attempt_ms);

/* The same, and pauses: longer after each failure in a row. */
extern void ps_relay_back_off(PsRelay *relay, const char *error, const char *hint);

/*
 * Pauses after a batch while the stream's workers are behind, so that they get the
 * machine. Customers that change again meanwhile are delivered once instead of twice.
 */
extern void ps_relay_rest(PsRelay *relay);

#endif							/* PS_RELAY_H */
