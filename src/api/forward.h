/*
 * forward.h
 *	  Events that SQL functions apply, of customers whose shard is on another node.
 */
#ifndef PS_FORWARD_H
#define PS_FORWARD_H

#include "postgres.h"

#include "apply/apply.h"

/* The shard of a decoded event, where another node has it; else PS_NO_SHARD. */
extern int	ps_forward_shard(const PsApplyItem *item);

/*
 * Has the node of each decoded event apply it, by a call of the function there with an array of
 * events: one call for each node. Sets the outcomes of those items, and leaves the others alone.
 */
extern void ps_forward_events(Oid function, PsApplyItem *items, const Datum *events, int n);

/* The same for one event and a function of one: returns its result, or 0 when the event is to be applied here. */
extern Datum ps_forward_event(Oid function, const PsApplyItem *item, Datum event);

#endif							/* PS_FORWARD_H */
