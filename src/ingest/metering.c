/*
 * metering.c
 *	  Measures a worker's transactions: how many messages, how long it took, and how long
 *	  after Kafka's timestamp each event was committed.
 */
#include "postgres.h"

#include "ingest/metering.h"
#include "ingest/report.h"
#include "process/meter.h"
#include "utils/timestamp.h"

#define COUNT_KIND(name) if (strcmp(kind, #name) == 0) batch->letters.name++;

/* Counts a dead letter by its kind. */
static void
count_letter(PsMeterBatch *batch, const PsApplyItem *item)
{
	const char *kind = item->outcome == PS_LATE ? "late" : ps_item_reason(item)->kind;

	PS_LETTER_KINDS(COUNT_KIND,)
}

void
ps_metering_commit(PsWorker *worker, const PsProgress *progress, PsMoment began)
{
	PsMeterBatch batch = {.us = ps_clock_now() - began};
	TimestampTz now = GetCurrentTimestamp();
	int64	   *latency = ps_meter_latency();

	for (int i = 0; i < progress->n; i++)
	{
		const PsApplyItem *item = &progress->items[i];

		batch.items += item->outcome != PS_DEFERRED;
		if (item->outcome == PS_APPLIED && item->message.kafka_timestamp != DT_NOBEGIN)
			latency[ps_histogram_bucket(now - item->message.kafka_timestamp)]++;
		else if (item->outcome == PS_DEAD || item->outcome == PS_LATE)
			count_letter(&batch, item);
	}
	for (int i = 0; i < progress->nmoves; i++)
	{
		const PsOffsetMove *move = &progress->moves[i];

		batch.read += move->counts.consumed;
		batch.done += move->counts.applied;
		ps_report_rate(ps_partition_find(worker, move->topic_no, move->partition) - worker->reading.partitions, &move->counts, now);
	}
	ps_meter_batch(&batch);
}
