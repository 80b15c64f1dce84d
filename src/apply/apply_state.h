/*
 * apply_state.h
 *	  The working set of one transaction of apply. apply.c runs the steps, dedupe.c
 *	  decides the outcomes, retry.c repeats the steps when users' functions fail,
 *	  and notify.c sends the notifications.
 */
#ifndef PS_APPLY_STATE_H
#define PS_APPLY_STATE_H

#include "apply/apply.h"
#include "store/history_store.h"
#include "store/profile_store.h"
#include "store/watch_catalog.h"

typedef struct PsCustomer
{
	const char *customer_id;
	int			customer_id_len;
	int64		lock_key;
	int64		sort_key;
	bool		deferred;		/* left out: its lock is not ours */
	bool		blocked;		/* left out: forgotten for good */
	int			first;			/* its first item with an event, -1: none; the next ones are in next[] of the state */
	int			nitems;			/* how many items with an event it has */
	int			napplied;		/* its events that apply */
	int			row_holder;		/* holds its row, see ps_lock_wait_holder(); 0: nobody */
	PsStoredProfile *stored;	/* while its group of profiles is in memory */
	int64		version;		/* of the saved profile */
	TimestampTz updated_at;
	const char *segment;		/* likewise, for channels of segments; NULL: there is none */
	bool		has_sealed;		/* chunks of samples, which this transaction writes later */
	struct sealed_now_hash *sealed_now; /* event ids that this transaction sealed; NULL: none */
	const char **event_types;	/* distinct types of its applied events */
	int			nevent_types;
	const PsEvent *last_event;	/* that was applied last */
	const		Bitmapset *changed; /* numbers of the watched names that changed */
} PsCustomer;

typedef struct PsApplyState
{
	PsApplyItem *items;
	int			n;
	const PsApplySettings *settings;
	PsCustomer **customer_of_item;	/* NULL: the item has no owner */
	int		   *next;			/* next item of the same customer with an event; -1: none */
	PsCustomer **customers;		/* in lock order */
	int			ncustomers;
	MemoryContext context;		/* of the transaction's working set */
	MemoryContext group_context;	/* of a group of profiles */
	List	   *seeded;			/* PsSeeded of customers whose scores an event of another system sets */
	PsChunk   **last_samples;	/* ends of the lists of chunks that this transaction seals */
	PsIdChunk **last_ids;
	const PsWatches *watches;	/* NULL: no stream watches */
	PsHistoryRow **last_history;	/* likewise of the rows of history */
	const PsTracked *tracked;	/* NULL: no history is kept */
	TimestampTz history_from;	/* what changed until then is older than the history is kept */
	TimestampTz retained_from;	/* an id that was applied later makes a duplicate */
	PsIdHash   *hashes;			/* of the items' event ids */
	bool	   *sealed;			/* whether the customer's sealed chunks have the id of an item */
	struct PsFunctionRun *run;	/* calls users' functions */
	bool		calls;			/* any of the items calls functions */
	bool		per_event_subxact;	/* each event that calls functions has its own subtransaction */
	bool		failed;			/* a function failed: this pass is rolled back and run again */
	int			nslow;			/* calls that took too long and were ended */
	int			calling;		/* item whose function runs; -1: none */
	struct PsLiveWork *live;	/* NULL: there is no live segment */
	PsCustomer **unread;		/* customers whose samples live segments can read at the end only */
	int			nunread;
} PsApplyState;

/* Runs the steps until no function fails, see retry.c. */
extern void ps_retry_run(PsApplyState *state, void (*steps) (PsApplyState *));

/* Applies an item to its customer's profile; false: a function failed. Sets *sealed to the chunk that it sealed, or NULL. */
extern bool ps_retry_apply_item(PsApplyState *state, PsCustomer *customer, int item, PsChunk **sealed);

/* Sorts customers by their sort_key, and by id where that is equal. */
extern void ps_apply_sort(PsCustomer **customers, int n);

/*
 * Notes which of the loaded rows another transaction holds, and returns whether there
 * are any. A session waits for it, a worker leaves the customer out.
 */
extern bool ps_apply_has_locked_rows(const PsApplyState *state, PsCustomer **customers, int n);

/* Raises an error, after which the caller applies again without the customers whose rows are held. */
extern void ps_apply_leave_locked_rows(PsApplyState *state);

/* Computes the hashes of event ids, once for all passes. */
extern void ps_dedupe_begin(PsApplyState *state);

/* Looks for the items of loaded customers in sealed chunks of event ids. */
extern void ps_dedupe_find_sealed(PsApplyState *state, PsCustomer **customers, int n);

/* The outcome of an item with an event, when the items before it are applied. */
extern PsOutcome ps_dedupe_classify(PsApplyState *state, const PsCustomer *customer, int i);

/* The outcome of an item without an event, or of one whose customer is left out. */
extern PsOutcome ps_dedupe_without_event(const PsApplyItem *item, const PsCustomer *customer);

/* Remembers the id of an item that was applied; returns the chunk that this sealed, or NULL. */
extern PsIdChunk *ps_dedupe_add(PsApplyState *state, PsCustomer *customer, int item);

/* live_group.c: evaluates live segments on a group of customers whose events are folded, and on those that were left for the end. */
extern void ps_live_group(PsApplyState *state, PsCustomer **customers, int n);
extern void ps_live_rest(PsApplyState *state);

/* Sends the notifications, or counts those that it skips because the server's queue is full. */
extern void ps_notify_changes(const PsApplyState *state);

#endif							/* PS_APPLY_STATE_H */
