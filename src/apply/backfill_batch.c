/*
 * backfill_batch.c
 *	  Applies events that do not come from Kafka. They are never late, because they come
 *	  in the order of their time, and the events of the topic may be newer.
 */
#include "postgres.h"

#include "apply/backfill_batch.h"
#include "settings.h"
#include "store/rule_catalog.h"
#include "utils/timestamp.h"

#define BATCH_BYTES (8 * 1024 * 1024)

void
ps_backfill_item(PsApplyItem *item, char *event)
{
	memset(item, 0, sizeof(PsApplyItem));
	item->message.topic_no = -1;
	item->message.partition = -1;
	item->message.offset = -1;
	item->message.kafka_timestamp = DT_NOBEGIN;
	item->message.value = event;
	item->message.value_len = event == NULL ? 0 : strlen(event);
}

bool
ps_backfill_read_batch(PsBackfillRows *rows, const char *name, int max, PsBackfillBatch *batch)
{
	PsHeader   *header = palloc0(sizeof(PsHeader));
	int64		bytes = 0;
	char	   *event;

	header->name = PS_BACKFILL_HEADER;
	header->value = pstrdup(name);
	header->value_len = strlen(name);
	memset(batch, 0, sizeof(PsBackfillBatch));
	batch->items = palloc_extended(max * sizeof(PsApplyItem), MCXT_ALLOC_HUGE);
	batch->positions = palloc_extended(max * sizeof(PsBackfillPosition), MCXT_ALLOC_HUGE);
	while (batch->n < max && bytes < BATCH_BYTES && ps_backfill_rows_next(rows, &event, &batch->positions[batch->n]))
	{
		PsApplyItem *item = &batch->items[batch->n++];

		ps_backfill_item(item, event);
		item->message.headers = header;
		item->message.nheaders = 1;
		bytes += item->message.value_len;
	}
	return batch->n > 0;
}

PsApplySettings
ps_backfill_settings(const PsStream *stream, bool in_rebuild)
{
	PsApplySettings settings = {
		.stream = stream->name,
		.letters_of = stream->stream_id,
		.max_clock_skew_us = ps_max_clock_skew_ms * INT64CONST(1000),
		.max_event_bytes = ps_max_event_bytes,
		.event_id_scope = strcmp(stream->event_id_scope, "stream") == 0 ? stream->stream_id : 0,
		.dedupe_retention_us = stream->dedupe_retention_us,
		.event_types = stream->event_types.n > 0 ? &stream->event_types : NULL,
		.accept_unknown_schema = strcmp(stream->unknown_schema, "accept") == 0,
		.late_tolerance_us = -1,
		.customer_lock_timeout_ms = -1,
		.classify_only = in_rebuild,
		.notify_channel = stream->channel,
		.segment_channel_prefix = in_rebuild ? NULL : stream->segment_channel_prefix
	};

	settings.notify = in_rebuild || strcmp(stream->notify, "off") == 0 ? PS_NOTIFY_OFF :
		strcmp(stream->notify, "customer") == 0 ? PS_NOTIFY_CUSTOMER : PS_NOTIFY_BATCH;
	return settings;
}

/* Decodes and applies the first items whose customers the lock table has room for; returns how many. */
static int
apply_first(PsApplyItem *items, int n, int max_customers, PsApplySettings *settings)
{
	volatile int taken = n;

	settings->now = GetCurrentTimestamp();
	settings->rules = ps_rules_hold();
	PG_TRY();
	{
		/* what an earlier transaction decoded may be decoded otherwise now */
		for (int i = 0; i < n; i++)
			items[i].event = NULL;
		ps_apply_decode(items, n, settings);
		taken = ps_apply_prefix(items, n, max_customers);
		ps_apply_read(items, taken, settings);
		ps_apply_items(items, taken, settings);
	}
	PG_FINALLY();
	{
		ps_rules_release();
	}
	PG_END_TRY();
	return taken;
}

void
ps_backfill_apply(PsBackfillBatch *batch, PsApplySettings *settings, PsBackfillCounts *counts, PsBackfillPosition *position)
{
	PsApplyItem *items = batch->items + batch->done;
	int			taken = apply_first(items, batch->n - batch->done, ps_apply_max_customers(1), settings);

	memset(counts, 0, sizeof(PsBackfillCounts));
	for (int i = 0; i < taken; i++)
	{
		PsOutcome	outcome = items[i].outcome;

		counts->rows++;
		if (outcome == PS_APPLIED)
			counts->applied++;
		else if (outcome == PS_DUPLICATE)
			counts->duplicates++;
		else if (outcome == PS_DEAD || outcome == PS_LATE)
			counts->dead++;
		else
			counts->skipped++;
	}
	batch->done += taken;
	*position = batch->positions[batch->done - 1];
}

void
ps_backfill_apply_items(PsApplyItem *items, int n, PsApplySettings *settings)
{
	(void) apply_first(items, n, n, settings);
}
