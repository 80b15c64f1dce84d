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
#include "apply/live.h"
#include "compat.h"
#include "core/customer_table.h"
#include "executor/spi.h"
#include "settings.h"
#include "store/blocked.h"
#include "store/chunk_store.h"
#include "store/dead_letters.h"
#include "store/event_id_store.h"
#include "store/history_catalog.h"
#include "store/locks.h"
#include "store/outbox.h"
#include "store/profile_store.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define GROUP_MEMORY (256 * 1024)
#define SESSION_RETENTION (7 * USECS_PER_DAY)	/* of event ids of a session */
#define MAX_NOTED_TYPES 64		/* event types of a customer that one transaction tells to sinks and listeners */

int
ps_apply_prefix(PsApplyItem *items, int n, int max_customers)
{
	ps_customers_hash *table;
	int			taken;

	if (n <= max_customers)
		return n;
	table = ps_customers_create(CurrentMemoryContext, max_customers, NULL);
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
			customer->customer_id_len = slot->key.len;
			customer->lock_key = slot->key.hash;
			state->customers[state->ncustomers++] = customer;
		}
		customer = slot->customer;
		customer->deferred |= state->items[i].is_deferred || state->items[i].row_holder != 0;
		state->customer_of_item[i] = customer;
	}
	for (int i = 0; i < state->ncustomers; i++)
		state->customers[i]->sort_key = state->customers[i]->lock_key;
	ps_apply_sort(state->customers, state->ncustomers);
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

/* Notes an event that was applied, and its type, up to a number of types, for sinks and notifications. */
static void
note_event(const PsApplyState *state, PsCustomer *customer, const PsEvent *event)
{
	customer->last_event = event;
	if (customer->nevent_types == MAX_NOTED_TYPES)
		return;
	for (int i = 0; i < customer->nevent_types; i++)
		if (strcmp(customer->event_types[i], event->event_type) == 0)
			return;
	if (customer->event_types == NULL)
		customer->event_types = MemoryContextAlloc(state->context, Min(customer->nitems, MAX_NOTED_TYPES) * sizeof(char *));
	customer->event_types[customer->nevent_types++] = event->event_type;
}

/*
 * Chains the items with an event of each customer who is not left out, and returns
 * these customers, in the order of their rows. All other items get their outcome.
 */
static PsCustomer **
chain_items(PsApplyState *state, int *n)
{
	PsCustomer **customers = palloc(state->ncustomers * sizeof(PsCustomer *));

	*n = 0;
	state->next = palloc(state->n * sizeof(int));
	for (int i = 0; i < state->ncustomers; i++)
	{
		state->customers[i]->first = -1;
		state->customers[i]->nitems = 0;
	}
	for (int i = state->n - 1; i >= 0; i--)
	{
		PsCustomer *customer = state->customer_of_item[i];

		if (state->items[i].event == NULL || customer->deferred || customer->blocked)
		{
			state->items[i].outcome = ps_dedupe_without_event(&state->items[i], customer);
			continue;
		}
		if (customer->nitems++ == 0)
			customers[(*n)++] = customer;
		state->next[i] = customer->first;
		customer->first = i;
	}
	for (int i = 0; i < *n; i++)
		customers[i]->sort_key = ps_profiles_place((uint32) customers[i]->lock_key);
	ps_apply_sort(customers, *n);
	return customers;
}

/* Copies the chunks that an event of a customer sealed, and adds them to those of the transaction. */
static void
keep_samples(PsApplyState *state, PsCustomer *customer, const PsChunk *sealed)
{
	customer->has_sealed |= sealed != NULL;
	for (; sealed != NULL; sealed = sealed->next)
	{
		PsChunk    *chunk = ps_chunk_copy(sealed, state->context);

		chunk->customer_id = customer->customer_id;
		chunk->next = NULL;
		*state->last_samples = chunk;
		state->last_samples = &chunk->next;
	}
}

/* Remembers the id of an event that was applied. */
static void
remember_id(PsApplyState *state, PsCustomer *customer, int item)
{
	PsIdChunk  *sealed = ps_dedupe_add(state, customer, item);

	if (sealed == NULL)
		return;
	*state->last_ids = sealed;
	state->last_ids = &sealed->next;
}

/* Notes which watched names have other values than before. */
static void
note_changes(const PsApplyState *state, PsCustomer *customer, const JsonbValue *before)
{
	MemoryContext caller;

	if (customer->napplied == 0)
		return;
	caller = MemoryContextSwitchTo(state->context);
	customer->changed = ps_watch_changes(&state->watches->names, before, &customer->stored->profile);
	MemoryContextSwitchTo(caller);
}

/* Keeps the old values of what an event changed, where that is tracked. */
static void
keep_history(PsApplyState *state, PsCustomer *customer, const PsNoted *noted)
{
	PsProfile  *profile = &customer->stored->profile;
	Jsonb	   *old = ps_history_changes(state->tracked, profile, noted);
	PsHistoryRow *row;

	if (old == NULL || profile->watermark <= state->history_from)
		return;
	row = MemoryContextAllocZero(state->context, sizeof(PsHistoryRow));
	row->customer_id = customer->customer_id;
	row->changed_at = profile->watermark;
	row->version = profile->version;
	row->old = MemoryContextAlloc(state->context, VARSIZE(old));
	memcpy(row->old, old, VARSIZE(old));
	*state->last_history = row;
	state->last_history = &row->next;
}

/* Decides the outcomes of a customer's items, and folds the events that apply onto the profile. */
static void
fold_customer(PsApplyState *state, PsCustomer *customer)
{
	JsonbValue *before = state->watches == NULL ? NULL : ps_watch_values(&state->watches->names, &customer->stored->profile);

	for (int i = customer->first; i >= 0; i = state->next[i])
	{
		PsApplyItem *item = &state->items[i];
		PsChunk    *sealed;
		PsNoted		noted;

		item->outcome = ps_dedupe_classify(state, customer, i);
		if (item->outcome != PS_APPLIED)
			continue;
		if (state->tracked != NULL)
			ps_history_note(state->tracked, &customer->stored->profile, &noted);
		if (!ps_retry_apply_item(state, customer, i, &sealed))
			continue;
		if (state->tracked != NULL)
			keep_history(state, customer, &noted);
		keep_samples(state, customer, sealed);
		remember_id(state, customer, i);
		customer->napplied++;
		note_event(state, customer, item->event);
	}
	if (state->watches != NULL)
		note_changes(state, customer, before);
}

/* Keeps scores that an event brought, until no table is open. */
static void
keep_seeded(PsApplyState *state, const PsCustomer *customer, const PsSeededScores *scores)
{
	MemoryContext old = MemoryContextSwitchTo(state->context);
	PsSeeded   *seeded = palloc0(sizeof(PsSeeded));

	seeded->customer_id = customer->customer_id;
	seeded->scores = *scores;	/* the values live as long as the event */
	state->seeded = lappend(state->seeded, seeded);
	MemoryContextSwitchTo(old);
}

/* Saves the profiles that changed, of a group of customers, and keeps what notifications tell of them. */
static void
save_group(PsApplyState *state, PsProfileTable * table, PsCustomer **customers, int n)
{
	PsStoredProfile **profiles = palloc(n * sizeof(PsStoredProfile *));
	int			changed = 0;

	for (int i = 0; i < n; i++)
	{
		if (customers[i]->napplied == 0)
			continue;
		customers[i]->version = customers[i]->stored->profile.version;
		customers[i]->updated_at = customers[i]->stored->profile.updated_at;
		if (customers[i]->stored->profile.seeded != NULL)
			keep_seeded(state, customers[i], customers[i]->stored->profile.seeded);
		customers[changed] = customers[i];
		profiles[changed++] = customers[i]->stored;
	}
	ps_profiles_save(table, profiles, changed);
	if (state->settings->segment_channel_prefix != NULL)
	{
		const char **segments = palloc(n * sizeof(char *));

		ps_profiles_segments(profiles, changed, segments);
		for (int i = 0; i < changed; i++)
			customers[i]->segment = segments[i] == NULL ? NULL : MemoryContextStrdup(state->context, segments[i]);
	}
}

/* Loads the profiles of a group of customers. */
static void
load_group(PsProfileTable * table, PsCustomer **customers, int n)
{
	PsStoredProfile *stored = palloc0(n * sizeof(PsStoredProfile));
	PsStoredProfile **profiles = palloc(n * sizeof(PsStoredProfile *));

	for (int i = 0; i < n; i++)
	{
		customers[i]->stored = profiles[i] = &stored[i];
		stored[i].customer_id = customers[i]->customer_id;
		stored[i].customer_id_len = customers[i]->customer_id_len;
		stored[i].hash = (uint32) customers[i]->lock_key;
	}
	ps_profiles_load(table, profiles, n);
}

/*
 * Loads profiles, folds their events in order and saves them. Returns false if rows of
 * other transactions or a function that failed prevent it. The memory of a group of
 * profiles is used again for the next one, so that it stays in the processor's cache.
 */
static bool
fold_group(PsApplyState *state, PsProfileTable * table, PsCustomer **customers, int n)
{
	MemoryContext old = MemoryContextSwitchTo(state->group_context);
	bool		locked;

	load_group(table, customers, n);
	locked = ps_apply_has_locked_rows(state, customers, n);
	if (!locked)
	{
		ps_dedupe_find_sealed(state, customers, n);
		for (int i = 0; i < n; i++)
			fold_customer(state, customers[i]);
		PS_FAILPOINT("after_fold");
		if (!state->failed && state->live != NULL)
			ps_live_group(state, customers, n);
		if (!state->failed)
			save_group(state, table, customers, n);
	}
	MemoryContextSwitchTo(old);
	if (state->group_context != state->context)
		MemoryContextReset(state->group_context);
	return !locked;
}

/* Folds the events of all customers, a group at a time. */
static void
fold_events(PsApplyState *state)
{
	int			ncustomers;
	PsCustomer **customers = chain_items(state, &ncustomers);
	PsProfileTable *table = NULL;
	PsChunk    *samples = NULL;
	PsIdChunk  *ids = NULL;
	PsHistoryRow *history = NULL;
	bool		locked = false;
	int			n;

	state->last_samples = &samples;
	state->last_ids = &ids;
	state->last_history = &history;
	state->context = CurrentMemoryContext;
	state->seeded = NIL;
	/* users' functions leave errors, which the next pass needs */
	state->group_context = state->calls ? state->context :
		AllocSetContextCreate(state->context, "profile_stream group", ALLOCSET_DEFAULT_MINSIZE, GROUP_MEMORY, GROUP_MEMORY);
	for (int done = 0; done < ncustomers; done += n)
	{
		if (table == NULL)
			table = ps_profiles_open();
		n = Min(ps_profiles_at_once(table), ncustomers - done);
		/* find all held rows before the error */
		locked |= !fold_group(state, table, customers + done, n);
		if (!state->calls)
			continue;
		ps_profiles_close(table);	/* functions of users see the profiles that were saved before */
		table = NULL;
		if (state->failed && !state->per_event_subxact)
			return;
	}
	if (table != NULL)
		ps_profiles_close(table);
	if (locked)
		ps_apply_leave_locked_rows(state);
	if (state->failed)
		return;
	ps_history_keep_scores(state->seeded, state->settings->now - ps_history_tracked()->retention_us);
	ps_profiles_seed_scores(state->seeded);
	ps_chunks_add(samples);
	ps_id_chunks_add(ids);
	ps_history_add(history);
	ps_live_rest(state);
	PS_FAILPOINT("after_upsert");
}

/* Writes a dead letter for each item that is dead or late. */
static void
add_dead_letters(PsApplyState *state)
{
	PsDeadLetter *letters = palloc(state->n * sizeof(PsDeadLetter));
	PsDeadLetterSource source = {Max(state->settings->stream_id, state->settings->letters_of), state->settings->stream};
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
			customer->customer_id, customer->event_types, customer->nevent_types, customer->last_event, customer->changed
		};
	}
	ps_outbox_add_changes(changes, n, state->watches);
}

/* Does everything that needs the customers' locks. */
static void
apply_locked(PsApplyState *state)
{
	/* a new snapshot: it must show what others committed while we waited for locks */
	PushActiveSnapshot(GetLatestSnapshot());
	state->watches = ps_watches_get();
	find_blocked(state);
	state->live = ps_live_begin();
	state->unread = NULL;
	state->nunread = 0;
	fold_events(state);
	if (!state->failed)
	{
		if (!state->settings->classify_only)
			add_dead_letters(state);
		add_to_outbox(state);
		ps_live_write(state->live, !state->settings->notify_full);
		ps_notify_changes(state);
	}
	PopActiveSnapshot();
}

/* Finds what is tracked, with the tables locked: whoever changes it waits for who applies, and is seen by who applies then. */
static void
find_tracked(PsApplyState *state)
{
	const PsTracked *tracked = ps_history_tracked();

	if (!tracked->events)
		return;
	state->tracked = tracked;
	state->history_from = state->settings->now - tracked->retention_us;
}

void
ps_apply_items(PsApplyItem *items, int n, const PsApplySettings *settings)
{
	PsApplyState state = {items, n, settings};
	MemoryContext caller = CurrentMemoryContext;

	SPI_connect();
	MemoryContextSwitchTo(caller);
	find_customers(&state);
	lock_customers(&state);
	PS_FAILPOINT("after_lock");
	ps_dedupe_begin(&state);
	find_tracked(&state);
	ps_retry_run(&state, apply_locked);
	SPI_finish();
}

PsApplySettings
ps_apply_session_settings(void)
{
	PsApplySettings settings = {
		.now = GetCurrentTimestamp(),
		.max_clock_skew_us = ps_max_clock_skew_ms * INT64CONST(1000),
		.max_event_bytes = ps_max_event_bytes,
		.dedupe_retention_us = SESSION_RETENTION,
		.late_tolerance_us = -1,
		.customer_lock_timeout_ms = -1
	};

	return settings;
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
