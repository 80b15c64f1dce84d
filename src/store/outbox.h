/*
 * outbox.h
 *	  What changed and has to leave the database. Every call needs an SPI connection.
 *
 *	  outbox	rows that are appended in the transaction of a change: customers and a sink
 *	  pending	one row per customer and sink at most, in the order in which they came:
 *				what a relay has taken out of the outbox and has not delivered
 *	  sink		where a stream's relay delivers to; the only one is redis
 */
#ifndef PS_OUTBOX_H
#define PS_OUTBOX_H

#include "postgres.h"

/* A customer to be delivered, as it is now. */
typedef struct PsPending
{
	char	   *customer_id;
	int64		version;		/* 0: there is no profile, and so */
	char	   *document;		/* NULL */
} PsPending;

/*
 * Notes for every sink of this database that these customers changed, or are
 * gone. Forgetting a customer calls this too, in its transaction.
 */
extern void ps_outbox_add(const char *const *customer_ids, int n);

/* Notes that for one stream's sinks all customers have to be delivered again; returns how many. */
extern int64 ps_outbox_refill(int stream_id);

/* Forgets what was to be delivered for a stream. */
extern void ps_outbox_clear(int stream_id);

/* Moves rows from the outbox to what is pending, about limit customers; returns how many that added. */
extern int64 ps_outbox_move(int stream_id, const char *sink, int limit);

/* Reads what is pending longest, at most limit, into memory of the caller; returns how many, and the last of them. */
extern int	ps_outbox_read(int stream_id, const char *sink, int limit, PsPending **pending, int64 *last);

/* Makes sure that no crash takes back what was read. */
extern void ps_outbox_flush(void);

/* Removes what was read up to the last. Whatever changes meanwhile is in the outbox. */
extern void ps_outbox_delivered(int stream_id, const char *sink, int64 last);

/* Counts what was delivered, and what the sink will never take. */
extern void ps_outbox_count(int stream_id, const char *sink, int64 delivered, int64 refused);

/* State of a relay, for stat_sinks. */
extern void ps_outbox_set_state(int stream_id, const char *sink, const char *state, const char *error,
								const char *hint, int64 next_attempt_ms);

#endif							/* PS_OUTBOX_H */
