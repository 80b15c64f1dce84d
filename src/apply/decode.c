/*
 * decode.c
 *	  Entries on their way into apply: decoding, counting, and how many customers
 *	  one transaction may lock.
 */
#include "postgres.h"

#include "apply/apply.h"
#include "core/redact.h"
#include "mb/pg_wchar.h"
#include "settings.h"
#include "store/locks.h"

void
ps_apply_count(PsCounts *counts, PsOutcome outcome)
{
	switch (outcome)
	{
		case PS_APPLIED:
			counts->applied++;
			break;
		case PS_DUPLICATE:
			counts->duplicates++;
			break;
		case PS_DEAD:
			counts->dead++;
			break;
		case PS_LATE:
			counts->late++;
			break;
		case PS_TOMBSTONE:
			counts->tombstones++;
			break;
		case PS_BLOCKED:
			counts->blocked++;
			break;
		case PS_HELD:
			break;
		case PS_PENDING:
			elog(ERROR, "message without an outcome");
	}
}

/* Says whose message it is that did not decode: by what was read of it, or by its key. */
static bool
find_owner(const PsMessage *message, PsEvent *event)
{
	if (event->customer_id == NULL && message->value != NULL)
		event->customer_id = ps_mention_customer(message->value, message->value_len);
	if (event->customer_id == NULL && message->key != NULL && message->key_len > 0 && message->key_len <= PS_MAX_ID_BYTES &&
		pg_encoding_verifymbstr(PG_UTF8, message->key, message->key_len) == message->key_len)
		event->customer_id = pnstrdup(message->key, message->key_len);
	if (event->customer_id == NULL)
		return false;
	event->customer_id_len = strlen(event->customer_id);
	event->customer_key = ps_lock_key(event->customer_id, event->customer_id_len);
	return event->customer_id_len > 0;
}

void
ps_apply_decode(PsEntry *entries, int n, const PsApplySettings *settings)
{
	PsDecodeSettings decode = {settings->now, settings->max_clock_skew_us, settings->max_event_bytes, settings->envelope, settings->rules, settings->time_unit};

	for (int i = 0; i < n; i++)
	{
		PsEntry    *entry = &entries[i];

		entry->event = NULL;
		entry->owner = NULL;
		entry->reject = entry->refusal = entry->failure = entry->late = NULL;
		entry->effect = NULL;
		entry->outcome = PS_PENDING;
		if (ps_event_is_tombstone(&entry->message, settings->envelope))
			continue;
		entry->event = palloc(sizeof(PsEvent));
		entry->reject = ps_event_decode(&entry->message, &decode, entry->event);
		entry->owner = entry->event;
		if (entry->reject == NULL)
			continue;
		if (!find_owner(&entry->message, entry->event))
			entry->owner = NULL;
		entry->event = NULL;
	}
}

void
ps_apply_read(PsEntry *entries, int n, const PsApplySettings *settings)
{
	for (int i = 0; i < n; i++)
	{
		PsEntry    *entry = &entries[i];

		if (entry->event == NULL || entry->event->outdated)
			continue;
		entry->effect = palloc(sizeof(PsEffect));
		entry->refusal = ps_handler_read(entry->event, settings->rules, entry->effect);
	}
}

int
ps_apply_max_customers(int running_workers)
{
	if (ps_batch_customers > 0)
		return ps_batch_customers;
	return Max(16, ps_lock_table_size() / 4 / Max(1, running_workers));
}
