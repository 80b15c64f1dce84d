/*
 * live.h
 *	  Live segments: who enters and leaves one while events are applied, while scores
 *	  change, and as time passes. Every call needs SPI.
 *
 *	  work		what one transaction finds out, and writes at the end
 *	  visit		a look at a customer without an event
 */
#ifndef PS_LIVE_H
#define PS_LIVE_H

#include "core/event.h"
#include "store/live_catalog.h"
#include "store/live_segments.h"

typedef struct PsLiveWork PsLiveWork;

/* Begins the work of a transaction, in the current memory context; NULL: there is no live segment. */
extern PsLiveWork *ps_live_begin(void);

extern const PsLiveSet *ps_live_set(const PsLiveWork *work);
extern TimestampTz ps_live_as_of(const PsLiveWork *work);

/*
 * Decides, for profiles that are going to be saved, who enters and leaves, and sets their
 * segment_state. events NULL: no event caused it. distrust: what their rows know is not
 * relied upon, but read from segment_members.
 */
extern void ps_live_decide(PsLiveWork *work, PsStoredProfile **profiles, int n, const PsEvent *const *events, bool distrust);

/* Visits customers whose locks the caller holds; visited[i] tells who was: not those whose rows others hold. NULL: does not matter. */
extern void ps_live_visit(PsLiveWork *work, const char *const *customer_ids, int n, const PsEvent *const *events, bool *visited);

/* The checks of those who are visited from now on are written even if they are known already. */
extern void ps_live_fill(PsLiveWork *work);

/* Adds the customers who entered or left to the outbox: of a change by an event it has them anyway. */
extern void ps_live_tell_sinks(const PsLiveWork *work);

/* Writes members, changes and checks, and notifies of who entered and left; work NULL: nothing. Returns how many did. */
extern int	ps_live_write(PsLiveWork *work, bool notify);

/*
 * Visits at most limit customers of whom a check is due, or whom a new segment has not
 * seen yet; in a transaction of its own. Returns how many; 0: there is nothing to do now.
 */
extern int	ps_live_sweep(int limit, bool notify);

#endif							/* PS_LIVE_H */
