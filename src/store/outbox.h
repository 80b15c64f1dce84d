/*
 * outbox.h
 *	  Changes that sinks have to get. Every call needs an SPI connection.
 *
 *	  outbox	the table to which the transaction of a change appends a row: customers
 *				and a sink
 *	  pending	the table of undelivered changes, to which a relay moves them from the
 *				outbox: at most one row for each customer and sink
 *	  sink		the target of one of a stream's relays
 */
#ifndef PS_OUTBOX_H
#define PS_OUTBOX_H

#include "postgres.h"

#include "core/event.h"
#include "core/profile.h"
#include "store/stream_catalog.h"
#include "store/watch_catalog.h"

/*
 * A statement that writes segment_changes, from INSERT to its end, and tells of them the
 * sinks that deliver changes. Their relays read the changes: from the first one that
 * this statement has written.
 */
#define PS_SEGMENT_CHANGES_TOLD(insert, group) \
	"WITH w AS (" insert " RETURNING customer_id, change_id)," \
	" c AS (SELECT pg_catalog.array_agg(DISTINCT w.customer_id) AS customer_ids, pg_catalog.min(w.change_id) AS first_change FROM w)" \
	" INSERT INTO profile_stream_internal.outbox (outbox_id, customer_id, stream_id, sink, customer_ids, customers, first_change)" \
	" SELECT " PS_OUTBOX_PLACE(group, "c.customer_ids") ", k.stream_id, k.sink, c.customer_ids, pg_catalog.cardinality(c.customer_ids), c.first_change" \
	" FROM c CROSS JOIN profile_stream_internal.stream_sinks k JOIN profile_stream.streams s ON s.stream_id = k.stream_id" \
	" WHERE k.content = 'changes' AND (s.watch IS NULL OR '" PS_SCORE_SEGMENT "' = ANY (s.watch))"

/*
 * The number of a row of segment_changes or outbox; $group is ps_segment_changes_group(). A shard has no sequence, and one of
 * each node would number its changes before those of others. So where profiles are distributed a number has the time
 * since 2000 in milliseconds, the group of the node, and the last bits of its sequence.
 */
#define PS_NUMBER_IN_SHARD(sequence, group) \
	"CASE WHEN " group " < 0 THEN pg_catalog.nextval('" sequence "'::pg_catalog.regclass)" \
	" ELSE ((pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - '2000-01-01 00:00:00+00'::timestamptz) * 1000)::int8 << 22)" \
	" | ((" group " & 1023) << 12) | (pg_catalog.nextval('" sequence "'::pg_catalog.regclass) & 4095) END"

#define PS_CHANGE_ID(group) PS_NUMBER_IN_SHARD("profile_stream.segment_changes_change_id_seq", group)

/* outbox_id and customer_id of a row of the outbox */
#define PS_OUTBOX_PLACE(group, customer_ids) \
	PS_NUMBER_IN_SHARD("profile_stream_internal.outbox_outbox_id_seq", group) ", CASE WHEN " group " < 0 THEN '' ELSE (" customer_ids ")[1] END"

/* The current profile of a customer, to be delivered. */
typedef struct PsPending
{
	char	   *customer_id;
	int64		version;		/* 0: the customer has no profile any more */
	char	   *document;		/* in the form that the sink takes; NULL: there is no profile */
	TimestampTz changed_at;		/* the first of the changes that are not delivered */
} PsPending;

/* Pending rows that were read: in each shard those up to the last one. */
typedef struct PsTakenRows
{
	uint64		reads;			/* ps_shards_reads() at that time */
	int			n;
	struct PsTakenShard
	{
		int			shard;
		int64		last;		/* pending_id */
	}		   *shards;
	int			next;			/* the shard that is read first next time */
} PsTakenRows;

/* The change of a customer by a transaction. */
typedef struct PsChange
{
	const char *customer_id;
	const char *const *event_types; /* distinct types of the applied events */
	int			nevent_types;
	const PsEvent *last_event;	/* that was applied last; NULL: none was */
	const		Bitmapset *changed; /* numbers of the watched names that changed */
	bool		is_erased;		/* by forget_customer(): every sink is told */
} PsChange;

/*
 * Adds changes of customers to the outbox, for every sink of this database; of a
 * stream that watches names only those in which one of them changed. The watches
 * are those that gave the numbers.
 */
extern void ps_outbox_add_changes(const PsChange *changes, int n, const PsWatches *watches);

/* Adds a customer whose profile was read, for the sinks of profiles alone, of streams that run here: nothing has changed. */
extern void ps_outbox_serve(const char *customer_id);

/* Makes all customers pending for one sink of a stream; of distributed profiles those of this node. Returns how many. */
extern int64 ps_outbox_resync(int stream_id, PsSinkKind kind);

/* Removes what the shard in use has for sinks that there are no more. */
extern int64 ps_outbox_forget_gone(void *arg);

/* Removes the undelivered changes for sinks that the stream does not have any more, but for those in shards. */
extern void ps_outbox_clear(int stream_id);

/*
 * Moves rows of about limit customers from the outbox to the pending ones. The rows
 * that are being delivered (NULL: none are) are as they were read: a change of their
 * customers gets a new row, which is delivered after them. The writer delivers the
 * rows; it is NULL unless profiles are distributed. It owns the shards that were there
 * when ps_shards_reads() was reads: of others, nothing is moved.
 */
extern void ps_outbox_move(int stream_id, PsSinkKind kind, int limit, const char *writer, uint64 reads, const PsTakenRows *on_its_way);

/* Reads at most limit of the oldest pending rows into memory of the caller. Returns how many. */
extern int	ps_outbox_read(int stream_id, PsSinkKind kind, int limit, PsPending **pending, PsTakenRows *taken);

/*
 * Who else may be delivering pending rows that are in shards of this node: names of writers,
 * in memory of the caller. Raises when a shard is part of one that was split.
 */
extern List *ps_outbox_other_writers(int stream_id, PsSinkKind kind, const char *writer);

/* Makes a writer that of all pending rows in shards of this node. */
extern void ps_outbox_take_over(int stream_id, PsSinkKind kind, const char *writer);

/* How many customers a sink has to be told of, and since when the first one waits; DT_NOBEGIN: there is none. With the caller's rights. */
extern int64 ps_outbox_backlog(int stream_id, const char *sink, TimestampTz *since);

/* Flushes WAL, so that no crash undoes the changes that are delivered next. */
extern void ps_outbox_flush(void);

/*
 * Removes the pending rows that were delivered. Later changes are still in the outbox.
 * If a shard may have left the node meanwhile, they stay and are delivered again.
 */
extern void ps_outbox_delivered(int stream_id, PsSinkKind kind, const PsTakenRows *taken);

/* Counts documents that were delivered, and those that the sink refused for good. */
extern void ps_outbox_count(int stream_id, PsSinkKind kind, int64 delivered, int64 refused);

/* Sets the state of a relay, as ps_stream_change_state() does that of a stream. */
extern void ps_outbox_change_state(int stream_id, PsSinkKind kind, const PsState *state, bool news, PsStateChange *change);

/* State of a relay, for stat_sinks. */
extern void ps_outbox_set_state(int stream_id, PsSinkKind kind, PsStreamState state, const char *error,
								const char *hint, int64 next_attempt_ms);

/* Whether the sink has a state; not after it was taken from the stream and given back. */
extern bool ps_outbox_has_state(int stream_id, PsSinkKind kind);

#endif							/* PS_OUTBOX_H */
