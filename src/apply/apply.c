/*
 * apply.c
 *	  Takes decoded messages through the one transaction: lock customers, drop
 *	  what was seen, load profiles, fold events onto them, save, dead-letter,
 *	  notify. The caller owns the transaction and moves the offsets in it.
 *
 *	  A batch is applied as if event by event: of two entries with one event id
 *	  the first that its handler accepts counts, and a refused one is a duplicate
 *	  when its id was applied before it.
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

#define MAX_NOTED_TYPES 64		/* of a customer in one transaction, for sinks and notifications */

int
ps_apply_cut(PsEntry *entries, int n, int max_customers)
{
	ps_customers_hash *table = ps_customers_create(CurrentMemoryContext, Min(n, max_customers), NULL);
	int			taken;

	for (taken = 0; taken < n; taken++)
	{
		bool		found;

		if (entries[taken].owner == NULL)
			continue;
		if (table->members >= max_customers &&
			ps_customers_lookup(table, ps_customer_key(entries[taken].owner)) == NULL)
			break;
		ps_customers_insert(table, ps_customer_key(entries[taken].owner), &found);
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

/* Finds the distinct customers, in lock order. */
static void
find_customers(PsWork *work)
{
	ps_customers_hash *table = ps_customers_create(CurrentMemoryContext, work->n, NULL);

	work->of_entry = palloc0(work->n * sizeof(PsCustomer *));
	work->customers = palloc(work->n * sizeof(PsCustomer *));
	for (int i = 0; i < work->n; i++)
	{
		bool		found;
		PsCustomerSlot *slot;
		PsCustomer *customer;

		if (work->entries[i].owner == NULL)
			continue;
		slot = ps_customers_insert(table, ps_customer_key(work->entries[i].owner), &found);
		if (!found)
		{
			slot->customer = customer = palloc0(sizeof(PsCustomer));
			customer->customer_id = slot->key.customer_id;
			customer->stored.customer_id = slot->key.customer_id;
			customer->stored.customer_id_len = slot->key.len;
			customer->stored.hash = (uint32) slot->key.hash;
			customer->lock_key = slot->key.hash;
			work->customers[work->ncustomers++] = customer;
		}
		customer = slot->customer;
		customer->left_out |= work->entries[i].aside || work->entries[i].keeper != 0;
		work->of_entry[i] = customer;
	}
	qsort(work->customers, work->ncustomers, sizeof(PsCustomer *), compare_lock_keys);
}

/* Takes the locks of all customers who are not left out, or leaves out those whose locks cannot be had in time. */
static void
lock_customers(PsWork *work)
{
	PsCustomer **customers = palloc(work->ncustomers * sizeof(PsCustomer *));
	int64	   *keys = palloc(work->ncustomers * sizeof(int64));
	bool	   *had = palloc(work->ncustomers * sizeof(bool));
	int			n = 0;

	for (int i = 0; i < work->ncustomers; i++)
	{
		if (work->customers[i]->left_out)
			continue;
		customers[n] = work->customers[i];
		keys[n++] = work->customers[i]->lock_key;
	}
	if (work->settings->lock_timeout_ms < 0)
	{
		ps_lock_customers(keys, n);
		return;
	}
	ps_lock_customers_within(keys, n, work->settings->lock_timeout_ms, had);
	for (int i = 0; i < n; i++)
		customers[i]->left_out = !had[i];
}

/* Marks the customers who are blocked: nothing of them is applied or kept. */
static void
find_blocked(PsWork *work)
{
	PsCustomer **customers;
	const char **customer_ids;
	bool	   *blocked;
	int			n = 0;

	if (work->ncustomers == 0 || !ps_blocked_any())
		return;
	customers = palloc(work->ncustomers * sizeof(PsCustomer *));
	customer_ids = palloc(work->ncustomers * sizeof(char *));
	blocked = palloc(work->ncustomers * sizeof(bool));
	for (int i = 0; i < work->ncustomers; i++)
	{
		if (work->customers[i]->left_out)
			continue;
		customers[n] = work->customers[i];
		customer_ids[n++] = work->customers[i]->customer_id;
	}
	ps_blocked_find(customer_ids, n, blocked);
	for (int i = 0; i < n; i++)
		customers[i]->blocked = blocked[i];
}

/* Notes an event type for the announcement, of which there are not too many. */
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

/* Chains each customer's entries that apply, in order; returns the customers that have any, as the index has them. */
static PsCustomer **
chain_entries(PsWork *work, int *n)
{
	PsCustomer **customers = palloc(work->ncustomers * sizeof(PsCustomer *));

	*n = 0;
	work->next = palloc(work->n * sizeof(int));
	for (int i = 0; i < work->ncustomers; i++)
	{
		work->customers[i]->first = -1;
		if (work->customers[i]->napplied > 0)
			customers[(*n)++] = work->customers[i];
	}
	for (int i = work->n - 1; i >= 0; i--)
	{
		if (work->entries[i].outcome != PS_APPLIED && (!work->careful || work->repeat_of[i] < 0))
			continue;
		work->next[i] = work->of_entry[i]->first;
		work->of_entry[i]->first = i;
	}
	ps_work_sort_by_id(customers, *n);
	return customers;
}

/* Folds a customer's events onto the profile; adds to the list of chunks, from the last one on, what that sealed. */
static PsChunk *
fold_customer(PsWork *work, PsCustomer *customer, PsChunk *last)
{
	for (int i = customer->first; i >= 0; i = work->next[i])
	{
		const PsEntry *entry = &work->entries[i];
		PsChunk    *sealed;

		if (!ps_work_apply_event(work, customer, i, &sealed))
			continue;
		last->next = sealed;
		for (; last->next != NULL; last = last->next)
			last->next->customer_id = customer->customer_id;
		note_event_type(customer, entry->event);
	}
	return last;
}

/* Loads the profiles that change, folds their events in order, saves them, as many at a time as the store likes. */
static void
fold_events(PsWork *work)
{
	int			ncustomers;
	PsCustomer **customers = chain_entries(work, &ncustomers);
	PsStoredProfile **profiles = palloc(ncustomers * sizeof(PsStoredProfile *));
	PsChunk		before_first = {0};
	PsChunk    *last = &before_first;
	bool		kept = false;
	int			n;

	for (int i = 0; i < ncustomers; i++)
		profiles[i] = &customers[i]->stored;
	for (int done = 0; done < ncustomers; done += n)
	{
		n = Min(ps_profiles_at_once(), ncustomers - done);
		if (work->settings->late_tolerance_us < 0)
			ps_profiles_load(profiles + done, n);
		kept |= ps_work_has_kept(work, profiles + done, n);
		if (kept)
			continue;			/* find the others as well */
		for (int i = done; i < done + n; i++)
			last = fold_customer(work, customers[i], last);
		PS_FAILPOINT("after_fold");
		if (work->failed && !work->careful)
			return;
		if (work->failed)
			continue;
		ps_profiles_save(profiles + done, n);
	}
	if (kept)
		ps_work_leave_kept(work);
	if (work->failed)
		return;
	ps_chunks_add(before_first.next);
	PS_FAILPOINT("after_upsert");
}

/* Writes a row for each dead entry. */
static void
add_dead_letters(PsWork *work)
{
	PsDeadLetter *letters = palloc(work->n * sizeof(PsDeadLetter));
	PsDeadLetterSource source = {work->settings->stream_id, work->settings->stream, work->settings->topic};
	int			nletters = 0;

	for (int i = 0; i < work->n; i++)
	{
		PsEntry    *entry = &work->entries[i];

		if (entry->outcome != PS_DEAD && entry->outcome != PS_LATE)
			continue;
		letters[nletters].message = &entry->message;
		letters[nletters].event = entry->event;
		letters[nletters++].reject = entry->reject ? entry->reject : entry->late ? entry->late :
			entry->refusal ? entry->refusal : entry->failure;
	}
	ps_dead_letters_add(letters, nletters, &source, work->settings->now);
	PS_FAILPOINT("after_dead_letters");
}

/* Notes whose profiles changed, for the sinks. */
static void
add_to_outbox(PsWork *work)
{
	PsChange   *changes = palloc(Max(work->ncustomers, 1) * sizeof(PsChange));
	int			n = 0;

	for (int i = 0; i < work->ncustomers; i++)
	{
		const PsCustomer *customer = work->customers[i];

		if (customer->napplied > 0)
			changes[n++] = (PsChange)
		{
			customer->customer_id, customer->event_types, customer->nevent_types
		};
	}
	ps_outbox_add_changes(changes, n);
}

/* All that is done under the customers' locks. */
static void
take_steps(PsWork *work)
{
	/* what was committed while we waited for a lock must be seen */
	PushActiveSnapshot(GetLatestSnapshot());
	find_blocked(work);
	ps_work_set_outcomes(work);
	fold_events(work);
	if (!work->failed)
	{
		if (!work->settings->judge_only)
			add_dead_letters(work);
		add_to_outbox(work);
		ps_work_announce(work);
	}
	PopActiveSnapshot();
}

void
ps_apply_entries(PsEntry *entries, int n, const PsApplySettings *settings)
{
	PsWork		work = {entries, n, settings};
	MemoryContext caller = CurrentMemoryContext;

	ps_distributed_check();
	SPI_connect();
	MemoryContextSwitchTo(caller);
	find_customers(&work);
	lock_customers(&work);
	PS_FAILPOINT("after_lock");
	ps_work_run(&work, take_steps);
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
