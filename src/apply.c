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

#include "apply.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "sink/notify.h"
#include "store/chunk_store.h"
#include "store/dead_letters.h"
#include "store/event_log.h"
#include "store/lock.h"
#include "store/profile_store.h"
#include "utils/snapmgr.h"

typedef struct Customer
{
	const char *customer_id;
	int64		lock_key;
	int			napplied;
	PsStoredProfile stored;
	const char **event_types;	/* distinct, of what was applied */
	int			nevent_types;
} Customer;

typedef struct CustomerKey
{
	const char *customer_id;
	int			len;
} CustomerKey;

typedef struct CustomerSlot
{
	CustomerKey key;
	Customer   *customer;
	uint32		hash;
	char		status;
} CustomerSlot;

#define SH_PREFIX customers
#define SH_ELEMENT_TYPE CustomerSlot
#define SH_KEY_TYPE CustomerKey
#define SH_KEY key
#define SH_HASH_KEY(tb, k) hash_bytes((const unsigned char *) (k).customer_id, (k).len)
#define SH_EQUAL(tb, a, b) ((a).len == (b).len && memcmp((a).customer_id, (b).customer_id, (a).len) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct SeenKey
{
	Customer   *customer;
	const char *event_id;
	int			len;
} SeenKey;

typedef struct SeenSlot
{
	SeenKey		key;
	uint32		hash;
	char		status;
} SeenSlot;

#define SH_PREFIX seen
#define SH_ELEMENT_TYPE SeenSlot
#define SH_KEY_TYPE SeenKey
#define SH_KEY key
#define SH_HASH_KEY(tb, k) \
	hash_combine(hash_bytes((const unsigned char *) (k).event_id, (k).len), (uint32) (k).customer->lock_key)
#define SH_EQUAL(tb, a, b) ((a).customer == (b).customer && (a).len == (b).len && \
							memcmp((a).event_id, (b).event_id, (a).len) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* The transaction's working set. */
typedef struct Work
{
	PsEntry    *entries;
	int			n;
	const PsApplySettings *settings;
	Customer  **of_entry;		/* customer of each entry with an event */
	Customer  **customers;		/* in lock order */
	int			ncustomers;
} Work;

static CustomerKey
customer_key(const PsEntry *entry)
{
	CustomerKey key = {entry->event->customer_id, entry->event->customer_id_len};

	return key;
}

int
ps_apply_cut(PsEntry *entries, int n, int max_customers)
{
	customers_hash *table = customers_create(CurrentMemoryContext, Min(n, max_customers), NULL);
	int			taken;

	for (taken = 0; taken < n; taken++)
	{
		bool		found;

		if (entries[taken].event == NULL)
			continue;
		if (table->members >= max_customers &&
			customers_lookup(table, customer_key(&entries[taken])) == NULL)
			break;
		customers_insert(table, customer_key(&entries[taken]), &found);
	}
	customers_destroy(table);
	return taken;
}

static int
compare_lock_keys(const void *a, const void *b)
{
	int64		x = (*(Customer *const *) a)->lock_key;
	int64		y = (*(Customer *const *) b)->lock_key;

	return x < y ? -1 : x > y;
}

/* Finds the distinct customers and takes their locks. */
static void
lock_customers(Work *work)
{
	customers_hash *table = customers_create(CurrentMemoryContext, work->n, NULL);
	int64	   *keys;

	work->of_entry = palloc0(work->n * sizeof(Customer *));
	work->customers = palloc(work->n * sizeof(Customer *));
	for (int i = 0; i < work->n; i++)
	{
		bool		found;
		CustomerSlot *slot;

		if (work->entries[i].event == NULL)
			continue;
		slot = customers_insert(table, customer_key(&work->entries[i]), &found);
		if (!found)
		{
			slot->customer = palloc0(sizeof(Customer));
			slot->customer->customer_id = slot->key.customer_id;
			slot->customer->stored.customer_id = slot->key.customer_id;
			slot->customer->lock_key = ps_lock_key(slot->key.customer_id, slot->key.len);
			work->customers[work->ncustomers++] = slot->customer;
		}
		work->of_entry[i] = slot->customer;
	}
	qsort(work->customers, work->ncustomers, sizeof(Customer *), compare_lock_keys);
	keys = palloc(work->ncustomers * sizeof(int64));
	for (int i = 0; i < work->ncustomers; i++)
		keys[i] = work->customers[i]->lock_key;
	ps_lock_customers(keys, work->ncustomers);
}

static void
name_event(PsEventId *id, const PsEvent *event)
{
	id->customer_id = event->customer_id;
	id->customer_id_len = event->customer_id_len;
	id->event_id = event->event_id;
	id->event_id_len = event->event_id_len;
}

/* Says which refused entries carry an id that was applied before this batch. */
static bool *
find_refused(Work *work, TimestampTz retained_from)
{
	PsEventId  *ids = palloc(work->n * sizeof(PsEventId));
	PsEventId **refs = palloc(work->n * sizeof(PsEventId *));
	bool	   *known = palloc0(work->n * sizeof(bool));
	int			nids = 0;

	for (int i = 0; i < work->n; i++)
	{
		PsEntry    *entry = &work->entries[i];

		if (entry->event == NULL || entry->refusal == NULL)
			continue;
		refs[nids++] = &ids[i];
		name_event(&ids[i], entry->event);
	}
	ps_event_log_find(refs, nids, retained_from);
	for (int i = 0; i < work->n; i++)
		if (work->entries[i].event != NULL && work->entries[i].refusal != NULL)
			known[i] = ids[i].known;
	return known;
}

/* Sets every entry's outcome, and remembers the ids of those that will apply. */
static void
set_outcomes(Work *work)
{
	TimestampTz retained_from = work->settings->now - work->settings->dedupe_retention_us;
	bool	   *refused_known = find_refused(work, retained_from);
	seen_hash  *seen = seen_create(CurrentMemoryContext, work->n, NULL);
	PsEventId  *ids = palloc(work->n * sizeof(PsEventId));
	PsEventId **refs = palloc(work->n * sizeof(PsEventId *));
	int			nids = 0;

	for (int i = 0; i < work->n; i++)
	{
		PsEntry    *entry = &work->entries[i];
		SeenKey		key;
		bool		found;

		if (entry->event == NULL)
		{
			entry->outcome = entry->reject != NULL ? PS_DEAD : PS_TOMBSTONE;
			continue;
		}
		key.customer = work->of_entry[i];
		key.event_id = entry->event->event_id;
		key.len = entry->event->event_id_len;
		if (entry->refusal != NULL)
		{
			found = refused_known[i] || seen_lookup(seen, key) != NULL;
			entry->outcome = found ? PS_DUPLICATE : PS_DEAD;
			continue;
		}
		(void) seen_insert(seen, key, &found);
		entry->outcome = found ? PS_DUPLICATE : PS_APPLIED;
		if (found)
			continue;
		refs[nids++] = &ids[i];
		name_event(&ids[i], entry->event);
	}
	ps_event_log_add(refs, nids, work->settings->now, retained_from);
	for (int i = 0; i < work->n; i++)
	{
		if (work->entries[i].outcome != PS_APPLIED)
			continue;
		if (ids[i].known)
			work->entries[i].outcome = PS_DUPLICATE;
		else
			work->of_entry[i]->napplied++;
	}
}

/* Notes an event type for the announcement. */
static void
note_event_type(Customer *customer, const PsEvent *event)
{
	for (int i = 0; i < customer->nevent_types; i++)
		if (strcmp(customer->event_types[i], event->event_type) == 0)
			return;
	if (customer->event_types == NULL)
		customer->event_types = palloc(customer->napplied * sizeof(char *));
	customer->event_types[customer->nevent_types++] = event->event_type;
}

static int
compare_customer_ids(const void *a, const void *b)
{
	return strcmp((*(PsStoredProfile *const *) a)->customer_id, (*(PsStoredProfile *const *) b)->customer_id);
}

/* Loads the profiles that change, folds their events in order, saves them. */
static void
fold_events(Work *work)
{
	PsStoredProfile **profiles = palloc(work->ncustomers * sizeof(PsStoredProfile *));
	PsChunk   **chunks = palloc(work->n * sizeof(PsChunk *));
	int			nprofiles = 0;
	int			nchunks = 0;

	for (int i = 0; i < work->ncustomers; i++)
		if (work->customers[i]->napplied > 0)
			profiles[nprofiles++] = &work->customers[i]->stored;
	/* neighbours in the index are on the same pages */
	qsort(profiles, nprofiles, sizeof(PsStoredProfile *), compare_customer_ids);
	ps_profiles_load(profiles, nprofiles);

	for (int i = 0; i < work->n; i++)
	{
		PsEntry    *entry = &work->entries[i];
		Customer   *customer = work->of_entry[i];
		PsChunk    *sealed;

		if (entry->outcome != PS_APPLIED)
			continue;
		sealed = ps_handler_apply(&customer->stored.profile, entry->event, entry->effect);
		if (sealed != NULL)
		{
			sealed->customer_id = customer->customer_id;
			chunks[nchunks++] = sealed;
		}
		note_event_type(customer, entry->event);
	}
	PS_FAILPOINT("after_fold");

	ps_profiles_save(profiles, nprofiles);
	ps_chunks_add(chunks, nchunks);
	PS_FAILPOINT("after_upsert");
}

/* Writes a row for each dead entry. */
static void
add_dead_letters(Work *work)
{
	PsDeadLetter *letters = palloc(work->n * sizeof(PsDeadLetter));
	PsDeadLetterSource source = {work->settings->stream_id, work->settings->stream, work->settings->topic};
	int			nletters = 0;

	for (int i = 0; i < work->n; i++)
	{
		PsEntry    *entry = &work->entries[i];

		if (entry->outcome != PS_DEAD)
			continue;
		letters[nletters].message = &entry->message;
		letters[nletters].event = entry->event;
		letters[nletters++].reject = entry->reject ? entry->reject : entry->refusal;
	}
	ps_dead_letters_add(letters, nletters, &source, work->settings->now);
	PS_FAILPOINT("after_dead_letters");
}

/* Announces what changed. */
static void
announce(Work *work)
{
	const PsApplySettings *settings = work->settings;
	int			customers = 0;
	int64		events = 0;

	if (settings->notify == PS_NOTIFY_OFF)
		return;
	for (int i = 0; i < work->ncustomers; i++)
	{
		Customer   *customer = work->customers[i];

		if (customer->napplied == 0)
			continue;
		customers++;
		events += customer->napplied;
		if (settings->notify == PS_NOTIFY_CUSTOMER)
			ps_notify_customer(settings->notify_channel, customer->customer_id,
							   customer->stored.profile.version, customer->stored.profile.updated_at,
							   customer->event_types, customer->nevent_types);
	}
	if (settings->notify == PS_NOTIFY_BATCH && customers > 0)
		ps_notify_batch(settings->notify_channel, settings->stream, customers, events);
	PS_FAILPOINT("after_notify");
}

void
ps_apply_entries(PsEntry *entries, int n, const PsApplySettings *settings)
{
	Work		work = {entries, n, settings};
	MemoryContext caller = CurrentMemoryContext;

	SPI_connect();
	MemoryContextSwitchTo(caller);
	lock_customers(&work);
	PS_FAILPOINT("after_lock");

	/* what was committed while we waited for a lock must be seen */
	PushActiveSnapshot(GetLatestSnapshot());
	set_outcomes(&work);
	fold_events(&work);
	add_dead_letters(&work);
	announce(&work);
	PopActiveSnapshot();
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
