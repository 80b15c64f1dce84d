/*
 * decode.c
 *	  Prepares items for apply: decodes them, and rejects those that are no events.
 *	  It also counts outcomes, and says how many customers a transaction may lock.
 */
#include "postgres.h"

#include "apply/apply.h"
#include "core/redact.h"
#include "mb/pg_wchar.h"
#include "settings.h"
#include "store/locks.h"
#include "store/shards.h"

#define COUNT(counter, outcome, name) \
	case PS_##outcome: \
		counts->counter++; \
		break;

void
ps_apply_count(PsCounts *counts, PsOutcome outcome)
{
	switch (outcome)
	{
			PS_OUTCOME_COUNTERS(COUNT,)
		case PS_DEFERRED:
			break;
		case PS_ELSEWHERE:
			counts->elsewhere++;
			counts->consumed--;
			break;
		case PS_PENDING:
		case PS_OUTCOMES:
			elog(ERROR, "message without an outcome");
	}
}

void
ps_item_reject(PsApplyItem *item, PsReject *reject, PsRejectedBy by)
{
	if (reject == NULL || (item->reject != NULL && item->rejected_by != PS_REJECTED_BY_FUNCTION))
		return;
	item->reject = reject;
	item->rejected_by = by;
}

PsReject *
ps_item_reason(const PsApplyItem *item)
{
	if (item->outcome == PS_LATE)
		return ps_reject_make("late", psprintf("Late event: " INT64_FORMAT " ms before the newest of its customer",
											   item->late_us / 1000));
	return item->reject;
}

/*
 * Finds the customer of a message that did not decode: in what was read of it, or
 * else in its key. Without a customer an erasure would not find the dead letter.
 */
static bool
find_owner(const PsMessage *message, PsEvent *event)
{
	if (event->customer_id == NULL && message->decoded != NULL)
		event->customer_id = ps_find_customer_id(message->decoded, message->decoded_len);
	if (event->customer_id == NULL && message->value != NULL)
		event->customer_id = ps_find_customer_id(message->value, message->value_len);
	if (event->customer_id == NULL && message->key != NULL && message->key_len > 0 && message->key_len <= PS_MAX_ID_BYTES &&
		pg_encoding_verifymbstr(PG_UTF8, message->key, message->key_len) == message->key_len)
		event->customer_id = pnstrdup(message->key, message->key_len);
	if (event->customer_id == NULL)
		return false;
	event->customer_id_len = strlen(event->customer_id);
	event->customer_key = ps_lock_key(event->customer_id, event->customer_id_len);
	return event->customer_id_len > 0;
}

/* Sets the format of a message: that of its topic, or else the stream's. */
static void
choose_format(const PsApplySettings *settings, const PsMessage *message, PsDecodeSettings *decode)
{
	decode->format_map = settings->format_map;
	decode->time_unit = settings->time_unit;
	for (int i = 0; i < settings->nown_formats; i++)
		if (strcmp(settings->own_formats[i].topic, message->topic) == 0)
		{
			decode->format_map = settings->own_formats[i].format_map;
			decode->time_unit = settings->own_formats[i].time_unit;
			return;
		}
}

/* Why the key or partition of an event is not what its stream says; NULL: it is. */
static PsReject *
check_place(const PsMessage *message, const PsEvent *event, const PsApplySettings *settings)
{
	if (settings->key_is_customer && !ps_message_has_key(message, event->customer_id, event->customer_id_len))
		return ps_reject_make("invalid", message->key == NULL ? "Missing key" : "Wrong key: it is not the customerId");
	if (settings->partition_is_shard && ps_shards_find(event->customer_id, event->customer_id_len) != message->partition)
		return ps_reject_make("invalid", "Wrong partition: it is not the shard of the customerId");
	return NULL;
}

void
ps_apply_decode(PsApplyItem *items, int n, const PsApplySettings *settings)
{
	PsDecodeSettings decode = {settings->now, settings->max_clock_skew_us, settings->max_event_bytes, settings->format_map, settings->rules, settings->time_unit,
	settings->event_types, settings->accept_unknown_schema};

	for (int i = 0; i < n; i++)
	{
		PsApplyItem *item = &items[i];

		PsReject   *reject;

		if (item->outcome == PS_ELSEWHERE)
			continue;
		item->owner = item->event;
		item->is_other_type |= item->message.is_ignored;
		if (item->event == NULL && settings->nown_formats > 0)
			choose_format(settings, &item->message, &decode);
		if (item->event != NULL || ps_event_is_tombstone(&item->message, decode.format_map))
			continue;
		item->event = palloc(sizeof(PsEvent));
		reject = ps_event_decode(&item->message, &decode, item->event);
		item->is_other_type = item->event->is_other_type;
		item->owner = item->event;
		if (reject == NULL && item->event->is_ignored)
			item->event = NULL;
		if (item->event == NULL)
			item->owner = NULL;
		else if (reject == NULL)
			reject = check_place(&item->message, item->event, settings);
		if (reject == NULL)
			continue;
		ps_item_reject(item, reject, PS_REJECTED_BY_DECODER);
		if (!find_owner(&item->message, item->event))
			item->owner = NULL;
		item->event = NULL;
	}
}

void
ps_apply_read(PsApplyItem *items, int n, const PsApplySettings *settings)
{
	for (int i = 0; i < n; i++)
	{
		PsApplyItem *item = &items[i];

		if (item->event == NULL || item->event->outdated)
			continue;
		item->effect = palloc(sizeof(PsEffect));
		ps_item_reject(item, ps_handler_read(item->event, settings->rules, item->effect), PS_REJECTED_BY_HANDLER);
	}
}

int
ps_apply_max_customers(int running_workers)
{
	if (ps_batch_customers > 0)
		return ps_batch_customers;
	return Max(16, ps_lock_table_size() / 4 / Max(1, running_workers));
}
