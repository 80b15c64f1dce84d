/*
 * dedupe.c
 *	  What becomes of each entry: applied, duplicate, dead or late; or held, when
 *	  its customer is left out; or blocked, as its customer is. Called by apply.c
 *	  while it holds the locks of all but those left out.
 *
 *	  Each entry is judged as if those before it had been applied: of two with one
 *	  event id the first that is not refused counts, a duplicate is not late, and
 *	  only what is applied moves the watermark that makes others late.
 */
#include "postgres.h"

#include "apply/apply_state.h"
#include "common/hashfn.h"
#include "core/keyed_hash.h"
#include "store/event_log.h"

typedef struct SeenKey
{
	PsCustomer *customer;
	const char *event_id;
	int			len;
} SeenKey;

typedef struct SeenSlot
{
	SeenKey		key;
	int			entry;			/* the first that has it and is not refused */
	uint32		hash;
	char		status;
} SeenSlot;

#define SH_PREFIX seen
#define SH_ELEMENT_TYPE SeenSlot
#define SH_KEY_TYPE SeenKey
#define SH_KEY key
#define SH_HASH_KEY(tb, k) \
	hash_combine(ps_table_hash((k).event_id, (k).len), murmurhash32((uint32) (uintptr_t) (k).customer))
#define SH_EQUAL(tb, a, b) ((a).customer == (b).customer && (a).len == (b).len && \
							memcmp((a).event_id, (b).event_id, (a).len) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static bool
is_judged(const PsCustomer *customer)
{
	return !customer->left_out && !customer->blocked;
}

/*
 * Sets the id by which an event is remembered. Where a stream's ids are its own,
 * its number is in front of it, between characters 1; an id that begins with such
 * a character gets a second one, so that it is no id of a stream.
 */
static void
name_event(PsEventId *id, const PsEvent *event, const PsApplySettings *settings)
{
	id->customer_id = event->customer_id;
	id->customer_id_len = event->customer_id_len;
	id->event_id = event->event_id;
	id->event_id_len = event->event_id_len;
	if (settings->event_id_scope == 0 && event->event_id[0] != '\001')
		return;
	if (settings->event_id_scope != 0)
		id->event_id = psprintf("\001%d\001%s", settings->event_id_scope, event->event_id);
	else
		id->event_id = psprintf("\001%s", event->event_id);
	id->event_id_len = strlen(id->event_id);
}

/* Loads the profiles of all customers, and notes the newest event of each. */
static void
load_watermarks(PsWork *work)
{
	ps_work_load_profiles(work);
	for (int i = 0; i < work->ncustomers; i++)
	{
		PsProfile  *profile = &work->customers[i]->stored.profile;

		work->customers[i]->watermark = profile->is_new ? DT_NOBEGIN : profile->watermark;
	}
}

/* Says why an event is too old for its customer, NULL when it is not. */
static PsReject *
find_late(const PsCustomer *customer, const PsEvent *event, int64 tolerance_us)
{
	if (tolerance_us < 0 || customer->watermark == DT_NOBEGIN ||
		event->timestamp >= customer->watermark - tolerance_us)
		return NULL;
	return ps_reject_make("late", psprintf("Late event: " INT64_FORMAT " ms before the newest of its customer",
										   (customer->watermark - event->timestamp) / 1000));
}

/*
 * Says which entries carry an id that was applied before this batch. Asks where
 * the answer matters before ids are added: of entries that are refused, or that
 * may be late.
 */
static bool *
find_known(PsWork *work, TimestampTz retained_from)
{
	bool		all = work->settings->late_tolerance_us >= 0;
	PsEventId  *ids = palloc0(work->n * sizeof(PsEventId));
	PsEventId **refs = palloc(work->n * sizeof(PsEventId *));
	bool	   *known = palloc0(work->n * sizeof(bool));
	int			nids = 0;

	for (int i = 0; i < work->n; i++)
	{
		PsEntry    *entry = &work->entries[i];

		if (entry->event == NULL || !is_judged(work->of_entry[i]) || !(all || ps_entry_is_refused(entry)))
			continue;
		refs[nids++] = &ids[i];
		name_event(&ids[i], entry->event, work->settings);
	}
	ps_event_log_find(refs, nids, retained_from);
	for (int i = 0; i < work->n; i++)
		known[i] = ids[i].known;
	return known;
}

/* Judges an event by those before it in the batch, and by whether its id is known to be applied. */
static PsOutcome
judge_event(PsWork *work, int i, seen_hash *seen, bool known)
{
	PsEntry    *entry = &work->entries[i];
	PsCustomer *customer = work->of_entry[i];
	SeenKey		key = {customer, entry->event->event_id, entry->event->event_id_len};
	SeenSlot   *slot;
	PsReject   *late;
	bool		found;

	if (known)
		return PS_DUPLICATE;
	late = find_late(customer, entry->event, work->settings->late_tolerance_us);
	if (late != NULL || ps_entry_is_refused(entry))
	{
		if (seen_lookup(seen, key) != NULL)
			return PS_DUPLICATE;
		entry->late = late;
		return late != NULL ? PS_LATE : PS_DEAD;
	}
	slot = seen_insert(seen, key, &found);
	if (found)
	{
		if (work->careful)
			work->repeat_of[i] = slot->entry;
		return PS_DUPLICATE;
	}
	slot->entry = i;
	customer->watermark = Max(customer->watermark, entry->event->timestamp);
	return PS_APPLIED;
}

void
ps_work_set_outcomes(PsWork *work)
{
	TimestampTz retained_from = work->settings->now - work->settings->dedupe_retention_us;
	bool	   *known = find_known(work, retained_from);
	seen_hash  *seen = seen_create(CurrentMemoryContext, work->n, NULL);
	PsEventId  *ids = palloc(work->n * sizeof(PsEventId));
	PsEventId **refs = palloc(work->n * sizeof(PsEventId *));
	int			nids = 0;

	if (work->careful)
		work->repeat_of = memset(palloc(work->n * sizeof(int)), -1, work->n * sizeof(int));
	if (work->settings->late_tolerance_us >= 0)
		load_watermarks(work);
	for (int i = 0; i < work->n; i++)
	{
		PsEntry    *entry = &work->entries[i];

		entry->late = NULL;
		if (entry->owner != NULL && !is_judged(work->of_entry[i]))
			entry->outcome = work->of_entry[i]->left_out ? PS_HELD : PS_BLOCKED;
		else if (entry->event == NULL)
			entry->outcome = entry->reject != NULL ? PS_DEAD : PS_TOMBSTONE;
		else
			entry->outcome = judge_event(work, i, seen, known[i]);
		if (entry->outcome != PS_APPLIED)
			continue;
		refs[nids++] = &ids[i];
		name_event(&ids[i], entry->event, work->settings);
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
