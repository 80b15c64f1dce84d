/*
 * dedupe.c
 *	  Decides the outcome of each item: applied, duplicate, dead or late; deferred
 *	  when its customer is left out; blocked when its customer is blocked. apply.c
 *	  calls it while it holds the locks of all customers who are not left out.
 *
 *	  An item is classified as if the items before it had been applied one by one.
 *	  Of two items with one event id the first that is not rejected counts. A
 *	  duplicate is never late. Only applied events move the watermark that makes
 *	  other events late.
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
	int			item;			/* the first with this id that is not rejected */
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

/* Whether the items of a customer are classified here. */
static bool
is_classified(const PsCustomer *customer)
{
	return !customer->deferred && !customer->blocked;
}

/*
 * Sets the id under which an event is remembered. An id that counts in one stream
 * only gets the stream's number in front, between two characters 1. Any other id
 * that begins with a character 1 gets a second one, so that the two cannot be equal.
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

/* Loads the profiles of all customers, and notes the time of the newest event of each. */
static void
load_watermarks(PsApplyState *state)
{
	ps_apply_load_profiles(state);
	for (int i = 0; i < state->ncustomers; i++)
	{
		PsProfile  *profile = &state->customers[i]->stored.profile;

		state->customers[i]->watermark = profile->is_new ? DT_NOBEGIN : profile->watermark;
	}
}

/* Whether an event is too old for its customer. */
static bool
is_late(const PsCustomer *customer, const PsEvent *event, int64 tolerance_us)
{
	return tolerance_us >= 0 && customer->watermark != DT_NOBEGIN &&
		event->timestamp < customer->watermark - tolerance_us;
}

/*
 * Says which items carry an id that was applied before this batch. It asks only for
 * rejected items, and for all where events can be late: for the others adding the
 * id tells it.
 */
static bool *
find_known(PsApplyState *state, TimestampTz retained_from)
{
	bool		all = state->settings->late_tolerance_us >= 0;
	PsEventId  *ids = palloc0(state->n * sizeof(PsEventId));
	PsEventId **refs = palloc(state->n * sizeof(PsEventId *));
	bool	   *known = palloc0(state->n * sizeof(bool));
	int			nids = 0;

	for (int i = 0; i < state->n; i++)
	{
		PsApplyItem *item = &state->items[i];

		if (item->event == NULL || !is_classified(state->customer_of_item[i]) || !(all || item->reject != NULL))
			continue;
		refs[nids++] = &ids[i];
		name_event(&ids[i], item->event, state->settings);
	}
	ps_event_log_find(refs, nids, retained_from);
	for (int i = 0; i < state->n; i++)
		known[i] = ids[i].known;
	return known;
}

/* Classifies an event by the items before it, and by whether its id is known to be applied. */
static PsOutcome
classify_event(PsApplyState *state, int i, seen_hash *seen, bool known)
{
	PsApplyItem *item = &state->items[i];
	PsCustomer *customer = state->customer_of_item[i];
	SeenKey		key = {customer, item->event->event_id, item->event->event_id_len};
	SeenSlot   *slot;
	bool		late;
	bool		found;

	if (known)
		return PS_DUPLICATE;
	late = is_late(customer, item->event, state->settings->late_tolerance_us);
	if (late || item->reject != NULL)
	{
		if (seen_lookup(seen, key) != NULL)
			return PS_DUPLICATE;
		if (!late)
			return PS_DEAD;
		item->late_us = customer->watermark - item->event->timestamp;
		return PS_LATE;
	}
	slot = seen_insert(seen, key, &found);
	if (found)
	{
		if (state->per_event_subxact)
			state->duplicate_of[i] = slot->item;
		return PS_DUPLICATE;
	}
	slot->item = i;
	customer->watermark = Max(customer->watermark, item->event->timestamp);
	return PS_APPLIED;
}

void
ps_dedupe(PsApplyState *state)
{
	TimestampTz retained_from = state->settings->now - state->settings->dedupe_retention_us;
	bool	   *known = find_known(state, retained_from);
	seen_hash  *seen = seen_create(CurrentMemoryContext, state->n, NULL);
	PsEventId  *ids = palloc(state->n * sizeof(PsEventId));
	PsEventId **refs = palloc(state->n * sizeof(PsEventId *));
	int			nids = 0;

	if (state->per_event_subxact)
		state->duplicate_of = memset(palloc(state->n * sizeof(int)), -1, state->n * sizeof(int));
	if (state->settings->late_tolerance_us >= 0)
		load_watermarks(state);
	for (int i = 0; i < state->n; i++)
	{
		PsApplyItem *item = &state->items[i];

		if (item->owner != NULL && !is_classified(state->customer_of_item[i]))
			item->outcome = state->customer_of_item[i]->deferred ? PS_DEFERRED : PS_BLOCKED;
		else if (item->event == NULL)
			item->outcome = item->reject != NULL ? PS_DEAD : PS_TOMBSTONE;
		else
			item->outcome = classify_event(state, i, seen, known[i]);
		if (item->outcome != PS_APPLIED)
			continue;
		refs[nids++] = &ids[i];
		name_event(&ids[i], item->event, state->settings);
	}
	ps_event_log_add(refs, nids, state->settings->now, retained_from);
	for (int i = 0; i < state->n; i++)
	{
		if (state->items[i].outcome != PS_APPLIED)
			continue;
		if (ids[i].known)
			state->items[i].outcome = PS_DUPLICATE;
		else
			state->customer_of_item[i]->napplied++;
	}
}
