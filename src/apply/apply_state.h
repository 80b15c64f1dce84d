/*
 * apply_state.h
 *	  The working set of one transaction of apply. apply.c runs the steps, dedupe.c
 *	  decides the outcomes, retry.c repeats the steps when users' functions fail,
 *	  and notify.c sends the notifications.
 */
#ifndef PS_APPLY_STATE_H
#define PS_APPLY_STATE_H

#include "apply/apply.h"
#include "store/profile_store.h"

typedef struct PsCustomer
{
	const char *customer_id;
	int64		lock_key;
	bool		deferred;		/* left out: its lock is not ours */
	bool		blocked;		/* left out: forgotten for good */
	int			napplied;		/* its events that apply */
	PsStoredProfile stored;
	TimestampTz watermark;		/* time of its newest event; set where events can be late */
	const char **event_types;	/* distinct types of its applied events */
	int			nevent_types;
	int			first;			/* its first item that applies; -1: none */
} PsCustomer;

typedef struct PsApplyState
{
	PsApplyItem *items;
	int			n;
	const PsApplySettings *settings;
	PsCustomer **customer_of_item;	/* NULL: the item has no owner */
	int		   *next;			/* next item of the same customer that applies; -1: none */
	PsCustomer **customers;		/* in lock order */
	int			ncustomers;
	struct PsFunctionRun *run;	/* calls users' functions */
	bool		calls;			/* any of the items calls functions */
	bool		per_event_subxact;	/* each event that calls functions has its own subtransaction */
	int		   *duplicate_of;	/* with per_event_subxact: the earlier item with the same event id; -1: none */
	bool		failed;			/* a function failed: this pass is rolled back and run again */
	int			nslow;			/* calls that took too long and were ended */
	int			calling;		/* item whose function runs; -1: none */
} PsApplyState;

/* Runs the steps until no function fails, see retry.c. */
extern void ps_retry_run(PsApplyState *state, void (*steps) (PsApplyState *));

/* Applies an item to its customer's profile; false: a function failed. Sets *sealed to the chunk that it sealed, or NULL. */
extern bool ps_retry_apply_event(PsApplyState *state, PsCustomer *customer, int item, PsChunk **sealed);

/* Sorts customers by id, as the index does, so that neighbours are read from the same pages. */
extern void ps_apply_sort_by_id(PsCustomer **customers, int n);

/* Whether another transaction holds any of the loaded rows. A session waits for it, a worker leaves the customer out. */
extern bool ps_apply_has_locked_rows(const PsApplyState *state, PsStoredProfile **profiles, int n);

/* Raises an error, after which the caller applies again without the customers whose rows are held. */
extern void ps_apply_leave_locked_rows(PsApplyState *state);

/* Loads the profiles of all customers who are not left out. */
extern void ps_apply_load_profiles(PsApplyState *state);

/*
 * Sets every item's outcome, and stores the ids of the events that will apply. It
 * loads all profiles first if events can be late.
 */
extern void ps_dedupe(PsApplyState *state);

/* Sends the notifications, or counts those that it skips because the server's queue is full. */
extern void ps_notify_changes(const PsApplyState *state);

#endif							/* PS_APPLY_STATE_H */
