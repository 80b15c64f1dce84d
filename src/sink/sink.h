/*
 * sink.h
 *	  The interface of sinks. A sink reads a batch from the tables, sends it without
 *	  blocking, and removes from the tables what was delivered. The relay (sink/relay.c)
 *	  begins the transactions, waits for the socket, and retries after errors.
 */
#ifndef PS_SINK_H
#define PS_SINK_H

#include "postgres.h"

#include "store/outbox.h"
#include "store/stream.h"

#define PS_SINK_BATCH 1000		/* items of a batch at most */

typedef enum PsSinkState
{
	PS_SINK_IDLE,				/* everything sent was delivered, or refused for good */
	PS_SINK_BUSY,
	PS_SINK_FAILED,				/* the batch was not delivered; disconnect() comes next, then a pause */
	PS_SINK_RETRY_NOW,			/* the same, but a pause would not help */
	PS_SINK_NEEDS_RESTART		/* the same, and only a new process can go on */
} PsSinkState;

typedef struct PsSinkMethods PsSinkMethods;

/* The head of each sink's own struct. */
typedef struct PsSink
{
	const PsSinkMethods *methods;
	PsSinkKind	kind;
	int			stream_id;
	MemoryContext context;		/* lives as long as the relay */
	const char *writer;			/* this server and database, and the node of Citus: nobody else delivers by that name */
	List	   *shut_out;		/* names of other writers, whose deliveries must have no effect from the next
								 * connection on */
	int			limit;			/* items of the next batch at most */
	TimestampTz *changed_at;	/* of each item of the batch, in the same context: when the change was committed */
	PsTakenRows taken;			/* the rows of the batch; unused for dead letters */
} PsSink;

struct PsSinkMethods
{
	/*
	 * Takes the stream's options, after each possible change. The stream lives until the next call. In a transaction
	 * with SPI; may raise.
	 */
	PsSinkState (*configure) (PsSink *sink, const PsStream *stream, Oid role);

	/* Begins to connect and to shut out other writers, unless the sink is connected. work() goes on with it. */
	void		(*connect) (PsSink *sink);

	/*
	 * Reads a batch of at most limit items into the current memory context; returns how many. In a transaction with
	 * SPI.
	 */
	int			(*read) (PsSink *sink);

	/* Begins to send the batch. */
	void		(*send) (PsSink *sink);

	/* Goes on; ready is what WaitLatchOrSocket() returned, or 0. */
	PsSinkState (*work) (PsSink *sink, int ready);

	/* What to wait for: a socket or PGINVALID_SOCKET, its events, and the longest wait; -1: for ever. */
				pgsocket(*socket) (PsSink *sink);
	int			(*events) (PsSink *sink);
	long		(*timeout_ms) (PsSink *sink);

	/* Why the sink failed, or what delays it while it is busy; NULL: nothing. The hint is NULL when there is none. */
	const char *(*error) (PsSink *sink, const char **hint);

	/*
	 * Removes the batch from the tables after it was delivered; returns how many items were refused. In a transaction
	 * with SPI.
	 */
	int64		(*finish) (PsSink *sink);

	/* Gives up the batch, and the connection if that is necessary. */
	void		(*disconnect) (PsSink *sink);
};

/* Makes a sink in the current memory context; raises when this build does not have it. */
extern PsSink *ps_sink_create(PsSinkKind kind, int stream_id);

/* Raises unless this build has the sink, and the role may deliver to the stream's target. */
extern void ps_sink_check(const PsStream *stream, PsSinkKind kind, Oid role);

/* Of each row of PS_SINKS: raises unless the role may use the target; makes the sink in the current memory context. */
#define PS_DECLARE_SINK(symbol, name, option, content, check, create, built) \
	extern void check(const PsStream *stream, PsSinkKind kind, Oid role); \
	extern PsSink *create(void);

PS_SINKS(PS_DECLARE_SINK)

#endif							/* PS_SINK_H */
