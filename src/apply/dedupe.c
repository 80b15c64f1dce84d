/*
 * dedupe.c
 *	  Decides the outcome of an item: applied, duplicate, dead or late; ignored when
 *	  its type is not taken; deferred when its customer is left out; blocked when its
 *	  customer is blocked. apply.c asks for one customer's items in their order, and
 *	  applies each before the next one.
 *
 *	  So of two items with one event id the first that is not rejected counts. A
 *	  duplicate is never late. Only applied events move the watermark that makes
 *	  other events late.
 */
#include "postgres.h"

#include "apply/apply_state.h"
#include "store/event_id_store.h"
#include "store/locks.h"
#include "store/secret.h"

/* The ids of a customer that this transaction sealed. */
typedef struct SealedId
{
	PsIdHash	hash;
	char		status;
} SealedId;

/* the ids are hashes with a secret key already */
static inline uint32
part_of_hash(PsIdHash hash)
{
	uint32		part;

	memcpy(&part, hash.bytes, sizeof(part));
	return part;
}

#define SH_PREFIX sealed_now
#define SH_ELEMENT_TYPE SealedId
#define SH_KEY_TYPE PsIdHash
#define SH_KEY hash
#define SH_HASH_KEY(tb, k) part_of_hash(k)
#define SH_EQUAL(tb, a, b) (memcmp((a).bytes, (b).bytes, sizeof((a).bytes)) == 0)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

void
ps_dedupe_begin(PsApplyState *state)
{
	const PsHashKey *key = ps_event_id_key();

	ps_lock_applying();
	state->retained_from = state->settings->now - state->settings->dedupe_retention_us;
	state->hashes = palloc(state->n * sizeof(PsIdHash));
	state->sealed = palloc0(state->n * sizeof(bool));
	for (int i = 0; i < state->n; i++)
	{
		const PsEvent *event = state->items[i].event;

		if (event != NULL)
			state->hashes[i] = ps_event_id_hash(key, event->event_id, event->event_id_len, state->settings->event_id_scope);
	}
}

void
ps_dedupe_find_sealed(PsApplyState *state, PsCustomer **customers, int n)
{
	PsIdQuery  *queries = NULL;
	int		   *items = NULL;
	int			asked = 0;

	for (int i = 0; i < n; i++)
	{
		const PsEventIds *ids = &customers[i]->stored->profile.event_ids;

		if (ps_event_ids_sealed_to(ids) <= state->retained_from)
			continue;
		if (queries == NULL)
		{
			int			most = 0;

			for (int left = i; left < n; left++)
				most += customers[left]->nitems;
			queries = palloc(most * sizeof(PsIdQuery));
			items = palloc(most * sizeof(int));
		}
		for (int item = customers[i]->first; item >= 0; item = state->next[item])
		{
			items[asked] = item;
			queries[asked++] = (PsIdQuery)
			{
				customers[i]->customer_id, customers[i]->lock_key, &ids->sealed, &state->hashes[item]
			};
		}
	}
	if (queries == NULL)
		return;
	ps_event_ids_find_sealed(queries, asked, state->retained_from);
	for (int i = 0; i < asked; i++)
		state->sealed[items[i]] = queries[i].found;
	pfree(queries);
	pfree(items);
}

/* Whether the id of an item was applied before. */
static bool
is_known(const PsApplyState *state, const PsCustomer *customer, int item)
{
	const PsIdHash *hash = &state->hashes[item];

	if (state->sealed[item] || ps_event_ids_find(&customer->stored->profile.event_ids, hash, state->retained_from))
		return true;
	return customer->sealed_now != NULL && sealed_now_lookup(customer->sealed_now, *hash) != NULL;
}

PsOutcome
ps_dedupe_classify(PsApplyState *state, const PsCustomer *customer, int i)
{
	PsApplyItem *item = &state->items[i];
	TimestampTz watermark = customer->stored->profile.watermark;
	int64		tolerance_us = state->settings->late_tolerance_us;

	item->late_us = 0;			/* it may be another pass */
	if (is_known(state, customer, i))
		return PS_DUPLICATE;
	if (tolerance_us >= 0 && watermark != DT_NOBEGIN && item->event->timestamp < watermark - tolerance_us)
	{
		item->late_us = watermark - item->event->timestamp;
		if (state->settings->late_policy != PS_LATE_IS_APPLIED)
			return state->settings->late_policy == PS_LATE_IS_DROPPED ? PS_LATE_DROPPED : PS_LATE;
	}
	return item->reject != NULL ? PS_DEAD : PS_APPLIED;
}

PsOutcome
ps_dedupe_without_event(const PsApplyItem *item, const PsCustomer *customer)
{
	if (customer != NULL && customer->deferred)
		return PS_DEFERRED;
	if (customer != NULL && customer->blocked)
		return PS_BLOCKED;
	if (item->is_other_type)
		return PS_IGNORED;
	return item->reject != NULL ? PS_DEAD : PS_TOMBSTONE;
}

/* Notes the ids of a chunk that is not in the table yet. */
static void
note_sealed(PsApplyState *state, PsCustomer *customer, const PsIdChunk *chunk)
{
	const PsIdHash *hashes = (const PsIdHash *) VARDATA_ANY(chunk->hashes);
	int			n = VARSIZE_ANY_EXHDR(chunk->hashes) / sizeof(PsIdHash);
	bool		found;

	if (customer->sealed_now == NULL)
		customer->sealed_now = sealed_now_create(state->context, 2 * n, NULL);
	for (int i = 0; i < n; i++)
		(void) sealed_now_insert(customer->sealed_now, hashes[i], &found);
}

PsIdChunk *
ps_dedupe_add(PsApplyState *state, PsCustomer *customer, int item)
{
	PsIdChunk  *sealed = ps_event_ids_add(&customer->stored->profile.event_ids, &state->hashes[item], state->settings->now);

	if (sealed == NULL)
		return NULL;
	sealed = ps_id_chunk_copy(sealed, state->context);
	sealed->customer_id = customer->customer_id;
	sealed->customer_key = customer->lock_key;
	note_sealed(state, customer, sealed);
	return sealed;
}
