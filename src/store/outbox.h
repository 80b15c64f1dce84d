/*
 * outbox.h
 *	  What changed and has to leave the database. Every call needs an SPI connection.
 *
 *	  outbox	rows that are appended in the transaction of a change: customers and a sink
 *	  pending	one row per customer and sink at most, in the order in which they came:
 *				what a relay has taken out of the outbox and has not delivered
 *	  sink		where one of a stream's relays delivers to
 */
#ifndef PS_OUTBOX_H
#define PS_OUTBOX_H

#include "postgres.h"

#include "store/stream_catalog.h"

/* A customer to be delivered, as it is now. */
typedef struct PsPending
{
	char	   *customer_id;
	int64		version;		/* 0: there is no profile, and so */
	char	   *document;		/* NULL; what that is follows from the sink */
} PsPending;

/* What became of a customer in a transaction. */
typedef struct PsChange
{
	const char *customer_id;
	const char *const *event_types; /* distinct, of what was applied */
	int			nevent_types;
} PsChange;

/*
 * Notes for every sink of this database that these customers changed, or are
 * gone. Forgetting a customer calls this too, in its transaction.
 */
extern void ps_outbox_add_changes(const PsChange *changes, int n);

/* Likewise, without event types. */
extern void ps_outbox_add(const char *const *customer_ids, int n);

/* Notes that all customers have to be delivered again to one sink of a stream; returns how many. */
extern int64 ps_outbox_resync(int stream_id, PsSinkKind kind);

/* Forgets what was to be delivered to sinks that the stream does not have any more. */
extern void ps_outbox_clear(int stream_id);

/*
 * Moves rows from the outbox to what is pending, about limit customers; returns
 * how many that changed. What is pending up to on_its_way was read and not yet
 * removed: a customer among it is pending once more.
 */
extern int64 ps_outbox_move(int stream_id, PsSinkKind kind, int limit, int64 on_its_way);

/* Reads what is pending longest, at most limit, into memory of the caller; returns how many, and the last of them. */
extern int	ps_outbox_read(int stream_id, PsSinkKind kind, int limit, PsPending **pending, int64 *last);

/* Makes sure that no crash takes back what was read. */
extern void ps_outbox_flush(void);

/* Removes what was read up to the last. Whatever changes meanwhile is in the outbox. */
extern void ps_outbox_delivered(int stream_id, PsSinkKind kind, int64 last);

/* Counts what was delivered, and what the sink will never take. */
extern void ps_outbox_count(int stream_id, PsSinkKind kind, int64 delivered, int64 refused);

/* Sets the state of a relay, as ps_stream_change_state() does that of a stream. */
extern void ps_outbox_change_state(int stream_id, PsSinkKind kind, const PsState *state, bool news, PsStateChange *change);

/* State of a relay, for stat_sinks. */
extern void ps_outbox_set_state(int stream_id, PsSinkKind kind, PsStreamState state, const char *error,
								const char *hint, int64 next_attempt_ms);

#endif							/* PS_OUTBOX_H */
