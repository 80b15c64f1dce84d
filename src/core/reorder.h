/*
 * reorder.h
 *	  Holds events until others that happened before them have had time to
 *	  arrive, and gives them back by timestamp, per customer; events of one
 *	  timestamp in the order of their arrival.
 *
 *	  An event is held for a time from its arrival, and no longer than a customer
 *	  has so many events, and the buffer room. Owns copies of the messages.
 */
#ifndef PS_REORDER_H
#define PS_REORDER_H

#include "clock.h"
#include "core/event.h"
#include "message.h"

typedef struct PsReorder PsReorder;

typedef struct PsReorderSettings
{
	int64		wait_us;
	int			per_customer;	/* a customer's oldest goes when so many are held */
	int64		max_bytes;		/* of all; when there are more, the customers that wait longest go first */
	int64		max_rows;		/* likewise, of events that came since the one that waits longest */
} PsReorderSettings;

extern PsReorder *ps_reorder_create(MemoryContext parent);

/* Holds a copy of a message, which decoded to this event. */
extern void ps_reorder_add(PsReorder *reorder, const PsReorderSettings *settings, const PsMessage *message,
						   const PsEvent *event, PsMoment now);

/*
 * Takes out at most max of what is due, or of all; returns how many, in the order
 * to apply them. What is due beyond that is taken out first the next time. The
 * array is the caller's, what the messages point to is valid until the next call
 * of ps_reorder_forget_released() or ps_reorder_reset().
 */
extern int	ps_reorder_release(PsReorder *reorder, const PsReorderSettings *settings, PsMoment now,
							   bool all, int max, PsMessage **messages);
extern void ps_reorder_forget_released(PsReorder *reorder);

/* Drops everything: it will be read again. */
extern void ps_reorder_reset(PsReorder *reorder);

/* When the event that waits longest arrived; PS_MOMENT_NEVER when none is held, PS_MOMENT_PAST when one is due. */
extern PsMoment ps_reorder_oldest(const PsReorder *reorder);

/* How many are held, and the memory that they take. */
extern int64 ps_reorder_held(const PsReorder *reorder);
extern int64 ps_reorder_bytes(const PsReorder *reorder);

#endif							/* PS_REORDER_H */
