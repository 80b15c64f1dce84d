/*
 * deferred.h
 *	  Customers that are set aside because somebody keeps their lock, with copies
 *	  of their messages in the order in which they apply.
 */
#ifndef PS_DEFERRED_H
#define PS_DEFERRED_H

#include "apply/apply.h"
#include "clock.h"
#include "store/profile_store.h"

typedef struct PsDeferred PsDeferred;

extern PsDeferred *ps_deferred_create(MemoryContext parent);

/* Drops everything: it will be read again. */
extern void ps_deferred_reset(PsDeferred *aside);

/* Marks the entries whose customers are set aside and not tried just now. */
extern void ps_deferred_mark(const PsDeferred *aside, PsApplyItem *items, int n);

/* Takes over what became of entries in a commit: keeps those that are held, drops those that no longer are. Log lines name the stream. */
extern void ps_deferred_committed(PsDeferred *aside, const char *stream, const PsApplyItem *items, int n);

/*
 * Begins to try again: entries, at most max, of the customers whose locks are free
 * now. They stay kept until a commit says what became of them.
 */
extern int	ps_deferred_take(PsDeferred *aside, int max, PsApplyItem **items);
extern void ps_deferred_end(PsDeferred *aside);

/*
 * Customers whose rows somebody kept, at most max of them, for the caller to load
 * their profiles: that says whether they are free. Then takes that over.
 */
extern int	ps_deferred_rows(PsDeferred *aside, int max, PsStoredProfile **profiles);
extern void ps_deferred_rows_probed(PsDeferred *aside, PsStoredProfile **profiles, int n);

/* When to try again, PS_MOMENT_NEVER when nobody is set aside. */
extern PsMoment ps_deferred_next_try(const PsDeferred *aside);

/* The memory that the messages take. */
extern int64 ps_deferred_bytes(const PsDeferred *aside);

/* Says of one who is set aside since when, and which process has the lock or the row; full: that no more can be held. NULL: nobody is. */
extern const char *ps_deferred_complaint(PsDeferred *aside, bool full);

#endif							/* PS_DEFERRED_H */
