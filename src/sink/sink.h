/*
 * sink.h
 *	  What a relay delivers to, whatever it is. A sink reads a batch of what waits
 *	  for it, sends it without ever blocking, and removes what was delivered; the
 *	  relay gives it transactions, waits for its socket, and tries again.
 */
#ifndef PS_SINK_H
#define PS_SINK_H

#include "postgres.h"

#include "store/stream_catalog.h"

#define PS_SINK_BATCH 1000		/* most of a batch */

typedef enum PsSinkState
{
	PS_SINK_IDLE,				/* whatever was sent is delivered, or refused for good */
	PS_SINK_BUSY,
	PS_SINK_FAILED,				/* what was sent is not delivered, and nothing more will be before disconnect() */
	PS_SINK_RETRY_NOW,			/* likewise, but not for something that a pause would cure */
	PS_SINK_NEEDS_RESTART		/* likewise, and only another process can go on */
} PsSinkState;

typedef struct PsSinkMethods PsSinkMethods;

/* The head of every sink's own struct. */
typedef struct PsSink
{
	const PsSinkMethods *methods;
	PsSinkKind	kind;
	int			stream_id;
	MemoryContext context;		/* as long as the relay */
	int			limit;			/* how many a batch may take */
	int64		last;			/* of a sink with an outbox: what is pending up to here is in the batch */
} PsSink;

struct PsSinkMethods
{
	/* In a transaction with SPI, when something may have changed; the stream lives until the next call. May raise. */
	PsSinkState (*configure) (PsSink *sink, const PsStream *stream, Oid role);

	/* Begins to connect, unless that is done: work() says how it goes. Nothing is sent. */
	void		(*connect) (PsSink *sink);

	/* In a transaction with SPI: reads a batch, at most limit, into memory that lives until it is finished; how many. */
	int			(*read) (PsSink *sink);

	/* Begins to send what was read. */
	void		(*send) (PsSink *sink);

	/* Goes on after WaitLatchOrSocket() said what is ready: 0 when the time was up. */
	PsSinkState (*work) (PsSink *sink, int ready);

	/* What to wait for: a socket or PGINVALID_SOCKET, its events, and how long at most, -1: for ever. */
				pgsocket(*socket) (PsSink *sink);
	int			(*events) (PsSink *sink);
	long		(*timeout_ms) (PsSink *sink);

	/* Why it failed, or what delays it while it is busy; NULL: nothing. The hint is NULL when there is none. */
	const char *(*error) (PsSink *sink, const char **hint);

	/* In a transaction with SPI: removes what was delivered or refused; how many were refused. */
	int64		(*finish) (PsSink *sink);

	/* Gives up what was read, and the connection where it must. */
	void		(*disconnect) (PsSink *sink);
};

/* One of each kind, in the current memory context. */
extern PsSink *ps_redis_sink_create(void);
extern PsSink *ps_changelog_sink_create(void);
extern PsSink *ps_dead_letters_sink_create(void);

#endif							/* PS_SINK_H */
