/*
 * apply_state.h
 *	  The working set of one transaction of apply, and the files that share it:
 *	  apply.c takes it through the steps, dedupe.c decides what applies,
 *	  retry.c repeats them when functions of users fail, notify_changes.c tells of it.
 */
#ifndef PS_APPLY_STATE_H
#define PS_APPLY_STATE_H

#include "apply/apply.h"
#include "store/profile_store.h"

typedef struct PsCustomer
{
	const char *customer_id;
	int64		lock_key;
	bool		deferred;		/* without the lock nothing of it is judged or changed */
	bool		blocked;		/* likewise: forgotten, and to stay so */
	int			napplied;
	PsStoredProfile stored;
	TimestampTz watermark;		/* while late events are looked for */
	const char **event_types;	/* distinct, of what was applied */
	int			nevent_types;
	int			first;			/* entry that applies; -1: none */
} PsCustomer;

typedef struct PsApplyState
{
	PsApplyItem *items;
	int			n;
	const PsApplySettings *settings;
	PsCustomer **customer_of_item;	/* customer of each entry that has an owner */
	int		   *next;			/* the same customer's next entry that applies; -1: none */
	PsCustomer **customers;		/* in lock order */
	int			ncustomers;
	struct PsFunctionRun *run;	/* of functions of users */
	bool		calls;			/* whether functions are called for any of the entries */
	bool		per_event_subxact;	/* each event that calls some in a subtransaction of its own */
	int		   *duplicate_of;	/* while careful: the entry before with the same event id, of which this one is a
								 * duplicate; -1: none */
	bool		failed;			/* some failed, so that all is to be done again without their events */
	int			nslow;			/* calls that were ended, because they took too long */
	int			calling;		/* entry that calls some at this moment; -1: none */
} PsApplyState;

static inline bool
ps_item_is_refused(const PsApplyItem *item)
{
	return item->refusal != NULL || item->failure != NULL;
}

/* Takes the work through its steps, again and again until no function fails; see retry.c. */
extern void ps_retry_run(PsApplyState *state, void (*steps) (PsApplyState *));

/* Applies an entry to its customer's profile; false: a function failed. Sets the chunk that it sealed, or NULL. */
extern bool ps_retry_apply_event(PsApplyState *state, PsCustomer *customer, int item, PsChunk **sealed);

/* Puts customers in the order of the index: neighbours there are on the same pages. */
extern void ps_apply_sort_by_id(PsCustomer **customers, int n);

/* Whether somebody keeps any of the rows that were loaded: then nobody else shall wait for that. */
extern bool ps_apply_has_locked_rows(const PsApplyState *state, PsStoredProfile **profiles, int n);

/* Has the caller do all again without the customers whose rows are kept. */
extern void ps_apply_leave_locked_rows(PsApplyState *state);

/* Loads the profiles of all customers whose events are judged. */
extern void ps_apply_load_profiles(PsApplyState *state);

/*
 * Sets every entry's outcome, and remembers the ids of those that will apply.
 * Loads the profiles of all customers when the settings know late events.
 */
extern void ps_dedupe(PsApplyState *state);

/* Announces what changed, or counts what is skipped because the server's queue is full. */
extern void ps_notify_changes(const PsApplyState *state);

#endif							/* PS_APPLY_STATE_H */
