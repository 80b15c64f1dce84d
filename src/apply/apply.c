/*
 * apply.c
 *	  Applies decoded messages in the caller's transaction: locks the customers,
 *	  drops duplicates, loads profiles, folds the events onto them, saves them, and
 *	  writes dead letters and notifications. The caller moves the offsets in the
 *	  same transaction, so that each message counts exactly once.
 *
 *	  The result is that of applying one event after the other. Of two items with
 *	  one event id the first that is not rejected counts. A rejected event whose id
 *	  was applied before is a duplicate.
 */
#include "postgres.h"

#include "apply/apply_state.h"
#include "core/customer_table.h"
#include "executor/spi.h"
#include "settings.h"
#include "store/blocked.h"
#include "store/chunk_store.h"
#include "store/dead_letters.h"
#include "store/distributed.h"
#include "store/locks.h"
#include "store/outbox.h"
#include "store/profile_store.h"
#include "utils/snapmgr.h"

#define MAX_NOTED_TYPES 64		/* event types of a customer that one transaction tells to sinks and listeners */

int
ps_apply_prefix(PsApplyItem *items, int n, int max_customers)
{
	ps_customers_hash *table = ps_customers_create(CurrentMemoryContext, Min(n, max_customers), NULL);
	int			taken;

	for (taken = 0; taken < n; taken++)
	{
		bool		found;

		if (items[taken].owner == NULL)
			continue;
		if (table->members >= max_customers &&
			ps_customers_lookup(table, ps_customer_key(items[taken].owner)) == NULL)
			break;
		ps_customers_insert(table, ps_customer_key(items[taken].owner), &found);
	}
	ps_customers_destroy(table);
	return taken;
}

static int
compare_lock_keys(const void *a, const void *b)
{
	int64		x = (*(PsCustomer *const *) a)->lock_key;
	int64		y = (*(PsCustomer *const *) b)->lock_key;

	return x < y ? -1 : x > y;
}

/* Finds the distinct customers, sorted by lock key: all transactions lock in this order. */
static void
find_customers(PsApplyState *state)
{
	ps_customers_hash *table = ps_customers_create(CurrentMemoryContext, state->n, NULL);

	state->customer_of_item = palloc0(state->n * sizeof(PsCustomer *));
	state->customers = palloc(state->n * sizeof(PsCustomer *));
	for (int i = 0; i < state->n; i++)
	{
		bool		found;
		PsCustomerSlot *slot;
		PsCustomer *customer;

		if (state->items[i].owner == NULL)
			continue;
		slot = ps_customers_insert(table, ps_customer_key(state->items[i].owner), &found);
		if (!found)
		{
			slot->customer = customer = palloc0(sizeof(PsCustomer));
			customer->customer_id = slot->key.customer_id;
			customer->stored.customer_id = slot->key.customer_id;
			customer->stored.customer_id_len = slot->key.len;
			customer->stored.hash = (uint32) slot->key.hash;
			customer->lock_key = slot->key.hash;
			state->customers[state->ncustomers++] = customer;
		}
		customer = slot->customer;
		customer->deferred |= state->items[i].is_deferred || state->items[i].row_holder != 0;
		state->customer_of_item[i] = customer;
	}
	qsort(state->customers, state->ncustomers, sizeof(PsCustomer *), compare_lock_keys);
}

/* Locks the customers, and leaves out those whose locks it does not get in time. */
static void
lock_customers(PsApplyState *state)
{
	PsCustomer **customers = palloc(state->ncustomers * sizeof(PsCustomer *));
	int64	   *keys = palloc(state->ncustomers * sizeof(int64));
	bool	   *had = palloc(state->ncustomers * sizeof(bool));
	int			n = 0;

	for (int i = 0; i < state->ncustomers; i++)
	{
		if (state->customers[i]->deferred)
			continue;
		customers[n] = state->customers[i];
		keys[n++] = state->customers[i]->lock_key;
	}
	if (state->settings->customer_lock_timeout_ms < 0)
	{
		ps_lock_customers(keys, n);
		return;
	}
	ps_lock_customers_within(keys, n, state->settings->customer_lock_timeout_ms, had);
	for (int i = 0; i < n; i++)
		customers[i]->deferred = !had[i];
}

/* Marks the customers who are blocked: none of their messages is applied or stored. */
static void
find_blocked(PsApplyState *state)
{
	PsCustomer **customers;
	const char **customer_ids;
	bool	   *blocked;
	int			n = 0;

	if (state->ncustomers == 0 || !ps_blocked_any())
		return;
	customers = palloc(state->ncustomers * sizeof(PsCustomer *));
	customer_ids = palloc(state->ncustomers * sizeof(char *));
	blocked = palloc(state->ncustomers * sizeof(bool));
	for (int i = 0; i < state->ncustomers; i++)
	{
		if (state->customers[i]->deferred)
			continue;
		customers[n] = state->customers[i];
		customer_ids[n++] = state->customers[i]->customer_id;
	}
	ps_blocked_find(customer_ids, n, blocked);
	for (int i = 0; i < n; i++)
		customers[i]->blocked = blocked[i];
}

/* Notes an event type for sinks and notifications, up to a number of types. */
static void
note_event_type(PsCustomer *customer, const PsEvent *event)
{
	if (customer->nevent_types == MAX_NOTED_TYPES)
		return;
	for (int i = 0; i < customer->nevent_types; i++)
		if (strcmp(customer->event_types[i], event->event_type) == 0)
			return;
	if (customer->event_types == NULL)
		customer->event_types = palloc(Min(customer->napplied, MAX_NOTED_TYPES) * sizeof(char *));
	customer->event_types[customer->nevent_types++] = event->event_type;
}

/* Chains the items of each customer that apply; returns the customers with such items, sorted by id. */
static PsCustomer **
chain_items(PsApplyState *state, int *n)
{
	PsCustomer **customers = palloc(state->ncustomers * sizeof(PsCustomer *));

	*n = 0;
	state->next = palloc(state->n * sizeof(int));
	for (int i = 0; i < state->ncustomers; i++)
	{
		state->customers[i]->first = -1;
		if (state->customers[i]->napplied > 0)
			customers[(*n)++] = state->customers[i];
	}
	for (int i = state->n - 1; i >= 0; i--)
	{
		if (state->items[i].outcome != PS_APPLIED && (!state->per_event_subxact || state->duplicate_of[i] < 0))
			continue;
		state->next[i] = state->customer_of_item[i]->first;
		state->customer_of_item[i]->first = i;
	}
	ps_apply_sort_by_id(customers, *n);
	return customers;
}

/* Folds a customer's events onto the profile; appends the chunks that this seals to a list and returns its last one. */
static PsChunk *
fold_customer(PsApplyState *state, PsCustomer *customer, PsChunk *last)
{
	for (int i = customer->first; i >= 0; i = state->next[i])
	{
		const PsApplyItem *item = &state->items[i];
		PsChunk    *sealed;

		if (!ps_retry_apply_event(state, customer, i, &sealed))
			continue;
		last->next = sealed;
		for (; last->next != NULL; last = last->next)
			last->next->customer_id = customer->customer_id;
		note_event_type(customer, item->event);
	}
	return last;
}

/* Loads the profiles that change, folds their events in order and saves them, a group of profiles at a time. */
static void
fold_events(PsApplyState *state)
{
	int			ncustomers;
	PsCustomer **customers = chain_items(state, &ncustomers);
	PsStoredProfile **profiles = palloc(ncustomers * sizeof(PsStoredProfile *));
	PsChunk		before_first = {0};
	PsChunk    *last = &before_first;
	bool		locked = false;
	int			n;

	for (int i = 0; i < ncustomers; i++)
		profiles[i] = &customers[i]->stored;
	for (int done = 0; done < ncustomers; done += n)
	{
		n = Min(ps_profiles_at_once(), ncustomers - done);
		if (state->settings->late_tolerance_us < 0)
			ps_profiles_load(profiles + done, n);
		locked |= ps_apply_has_locked_rows(state, profiles + done, n);
		if (locked)
			continue;			/* find all held rows before the error */
		for (int i = done; i < done + n; i++)
			last = fold_customer(state, customers[i], last);
		PS_FAILPOINT("after_fold");
		if (state->failed && !state->per_event_subxact)
			return;
		if (state->failed)
			continue;
		ps_profiles_save(profiles + done, n);
	}
	if (locked)
		ps_apply_leave_locked_rows(state);
	if (state->failed)
		return;
	ps_chunks_add(before_first.next);
	PS_FAILPOINT("after_upsert");
}

/* Writes a dead letter for each item that is dead or late. */
static void
add_dead_letters(PsApplyState *state)
{
	PsDeadLetter *letters = palloc(state->n * sizeof(PsDeadLetter));
	PsDeadLetterSource source = {state->settings->stream_id, state->settings->stream, state->settings->topic};
	int			nletters = 0;

	for (int i = 0; i < state->n; i++)
	{
		PsApplyItem *item = &state->items[i];

		if (item->outcome != PS_DEAD && item->outcome != PS_LATE)
			continue;
		letters[nletters].message = &item->message;
		letters[nletters].event = item->event;
		letters[nletters++].reject = ps_item_reason(item);
	}
	ps_dead_letters_add(letters, nletters, &source, state->settings->now);
	PS_FAILPOINT("after_dead_letters");
}

/* Tells the sinks whose profiles changed. */
static void
add_to_outbox(PsApplyState *state)
{
	PsChange   *changes = palloc(Max(state->ncustomers, 1) * sizeof(PsChange));
	int			n = 0;

	for (int i = 0; i < state->ncustomers; i++)
	{
		const PsCustomer *customer = state->customers[i];

		if (customer->napplied > 0)
			changes[n++] = (PsChange)
		{
			customer->customer_id, customer->event_types, customer->nevent_types
		};
	}
	ps_outbox_add_changes(changes, n);
}

/* Does everything that needs the customers' locks. */
static void
apply_locked(PsApplyState *state)
{
	/* a new snapshot: it must show what others committed while we waited for locks */
	PushActiveSnapshot(GetLatestSnapshot());
	find_blocked(state);
	ps_dedupe(state);
	fold_events(state);
	if (!state->failed)
	{
		if (!state->settings->classify_only)
			add_dead_letters(state);
		add_to_outbox(state);
		ps_notify_changes(state);
	}
	PopActiveSnapshot();
}

void
ps_apply_items(PsApplyItem *items, int n, const PsApplySettings *settings)
{
	PsApplyState state = {items, n, settings};
	MemoryContext caller = CurrentMemoryContext;

	ps_distributed_check();
	SPI_connect();
	MemoryContextSwitchTo(caller);
	find_customers(&state);
	lock_customers(&state);
	PS_FAILPOINT("after_lock");
	ps_retry_run(&state, apply_locked);
	SPI_finish();
}

void
ps_apply_offsets(const PsApplySettings *settings, const PsOffsetMove *moves, int n)
{
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	ps_offsets_move(settings->stream_id, moves, n, settings->now);
	PopActiveSnapshot();
	SPI_finish();
	PS_FAILPOINT("after_offsets");
}
