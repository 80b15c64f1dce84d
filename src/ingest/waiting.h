/*
 * waiting.h
 *	  The messages that were read but cannot be applied yet, by customer. A message
 *	  waits for one of two reasons:
 *
 *	  held		events that happened before it may still arrive: it waits for
 *				reorder_wait, and is then given back in the order of timestamps
 *	  deferred	another transaction holds its customer's lock or row
 *
 *	  A held message may become a deferred one, never the other way round. As long as
 *	  a customer has deferred messages, all its later ones are deferred behind them,
 *	  so its events keep their order.
 *
 *	  Each message has one copy here, together with its decoded event, so that it is
 *	  decoded once. All copies share one bound of memory, profile_stream.reorder_memory.
 */
#ifndef PS_WAITING_H
#define PS_WAITING_H

#include "apply/apply.h"
#include "clock.h"
#include "store/profile_store.h"

typedef struct PsWaiting PsWaiting;

/* How long messages are held. */
typedef struct PsHoldSettings
{
	int64		wait_us;
	int			per_customer;	/* with so many held, the oldest of the customer is due */
	int64		max_bytes;		/* of all that waits; above, the customer that is held longest is due */
	int64		max_events;		/* of arrivals since the message that is held longest; above, likewise */
} PsHoldSettings;

extern PsWaiting *ps_waiting_create(MemoryContext parent);

/* Drops everything: it will be read again. */
extern void ps_waiting_reset(PsWaiting *waiting);

/*
 * Tells by which settings and rules this batch decodes: a number that grows with each
 * change of them. A message that was decoded by older ones is given back without its
 * event, and the caller decodes it again.
 */
extern void ps_waiting_decode_by(PsWaiting *waiting, uint64 decoder);

/* Holds a copy of an item's message and event. */
extern void ps_waiting_hold(PsWaiting *waiting, const PsHoldSettings *settings, const PsApplyItem *item, PsMoment now);

/*
 * Gives back what is due, or everything that is held: at most max items, in the order
 * to apply them. The rest comes first the next time. The copies stay until
 * ps_waiting_committed() says what became of the items.
 */
extern int	ps_waiting_release(PsWaiting *waiting, const PsHoldSettings *settings, PsMoment now, bool all, int max,
							   PsApplyItem **items);

/* Makes held messages due, of a customer or, without one, of all; returns how many. */
extern int64 ps_waiting_flush(PsWaiting *waiting, const char *customer_id);

/* How many messages are due. */
extern int	ps_waiting_due(const PsWaiting *waiting);

/* When the message that is held longest arrived. PS_MOMENT_NEVER: none is held. PS_MOMENT_PAST: one is due. */
extern PsMoment ps_waiting_oldest(const PsWaiting *waiting);

/* How many messages are held, those that are due among them. */
extern int64 ps_waiting_held(const PsWaiting *waiting);

/* Marks the items whose customers have deferred messages and are not being tried now. */
extern void ps_waiting_mark(const PsWaiting *waiting, PsApplyItem *items, int n);

/* After a commit: defers the items with that outcome, and drops the copies of the others. The stream's name is for the log. */
extern void ps_waiting_committed(PsWaiting *waiting, const char *stream, const PsApplyItem *items, int n);

/*
 * Begins to try deferred messages again: gives back at most max items of the
 * customers whose locks and rows are free now.
 */
extern int	ps_waiting_try(PsWaiting *waiting, int max, PsApplyItem **items);
extern void ps_waiting_end_try(PsWaiting *waiting);

/*
 * Gives back at most max customers whose rows were held. The caller loads their
 * profiles, which tells who holds them now, and passes them to the second function.
 */
extern int	ps_waiting_locked_rows(PsWaiting *waiting, int max, PsStoredProfile **profiles);
extern void ps_waiting_rows_probed(PsWaiting *waiting, PsStoredProfile **profiles, int n);

/* When to try deferred messages again, PS_MOMENT_NEVER when there are none. */
extern PsMoment ps_waiting_next_try(const PsWaiting *waiting);

/* How many messages are deferred. */
extern int64 ps_waiting_deferred(const PsWaiting *waiting);

/* The memory that all messages take, and that the deferred ones take. */
extern int64 ps_waiting_bytes(const PsWaiting *waiting);
extern int64 ps_waiting_deferred_bytes(const PsWaiting *waiting);

/*
 * Says which customer is deferred longest, and who holds its lock or row; full: also
 * that nothing more is read. NULL: no customer is deferred. The text is looked up
 * again at most once a second.
 */
extern const char *ps_waiting_complaint(PsWaiting *waiting, bool full);

#endif							/* PS_WAITING_H */
