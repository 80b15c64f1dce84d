/*
 * meter.c
 *	  Measures a process over the last minute. Only the process itself writes; sessions
 *	  read meanwhile, and may see a batch in one number and not yet in the next.
 */
#include "postgres.h"

#include "process/lease.h"
#include "process/meter.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define PERIOD_US (5 * USECS_PER_SEC)

static PsMeter unpublished;		/* where the server has no segment left */
static PsMeter *meter = &unpublished;
static int64 measured_in = 0;	/* period of the last look at the memory */

static int64
period_of(TimestampTz now)
{
	return now / PERIOD_US;
}

/* How much of the last minute a process has seen, in seconds. */
static double
measured_seconds(TimestampTz begun, TimestampTz now)
{
	TimestampTz from = Max(begun, (period_of(now) - PS_METER_PERIODS + 1) * PERIOD_US);

	return Max(now - from, USECS_PER_SEC) / (double) USECS_PER_SEC;
}

/* Whether a period is one of the last minute. */
static bool
is_recent(int64 period, TimestampTz now)
{
	return period > period_of(now) - PS_METER_PERIODS && period <= period_of(now);
}

void
ps_rate_add(PsRate *rates, int64 items, int64 done, TimestampTz now)
{
	PsRate	   *rate = &rates[period_of(now) % PS_METER_PERIODS];

	if (rate->period != period_of(now))
	{
		rate->items = rate->done = 0;
		rate->period = period_of(now);
	}
	rate->items += items;
	rate->done += done;
}

void
ps_rate_read(const PsRate *rates, TimestampTz begun, TimestampTz now, double *items, double *done)
{
	double		seconds = measured_seconds(begun, now);

	*items = *done = 0;
	for (int i = 0; i < PS_METER_PERIODS; i++)
		if (is_recent(rates[i].period, now))
		{
			*items += rates[i].items / seconds;
			*done += rates[i].done / seconds;
		}
}

/* The present period, all zero when it has just begun. */
static PsMeterPeriod *
present_period(TimestampTz now)
{
	PsMeterPeriod *period = &meter->periods[period_of(now) % PS_METER_PERIODS];

	if (period->period != period_of(now))
	{
		memset(period, 0, sizeof(PsMeterPeriod));
		period->period = period_of(now);
	}
	return period;
}

void
ps_meter_begin(int stream_id, int number)
{
	dsm_segment *segment;

	if (meter != &unpublished)
		return;
	segment = dsm_create(sizeof(PsMeter), DSM_CREATE_NULL_IF_MAXSEGMENTS);
	if (segment != NULL)
	{
		dsm_pin_mapping(segment);
		meter = dsm_segment_address(segment);
	}
	memset(meter, 0, sizeof(PsMeter));
	meter->number = number;
	meter->begun = GetCurrentTimestamp();
	if (segment != NULL)
		ps_lease_publish(stream_id, dsm_segment_handle(segment), PS_SPACE_METER);
	measured_in = 0;
	ps_meter_turn();
}

void
ps_meter_turn(void)
{
	int64		period = period_of(GetCurrentTimestamp());

	if (period == measured_in)
		return;
	measured_in = period;
	meter->memory_bytes = MemoryContextMemAllocated(TopMemoryContext, true);
}

#define ADD_KIND(kind) sum->letters.kind += more->letters.kind;

static void
batch_add(PsMeterBatch *sum, const PsMeterBatch *more)
{
	sum->items += more->items;
	sum->read += more->read;
	sum->done += more->done;
	sum->us += more->us;
	PS_LETTER_KINDS(ADD_KIND,)
}

void
ps_meter_batch(const PsMeterBatch *batch)
{
	TimestampTz now = GetCurrentTimestamp();
	PsMeterPeriod *period = present_period(now);

	ps_rate_add(meter->rates, batch->read, batch->done, now);
	if (batch->items == 0)
		return;					/* it has stored progress alone */
	period->batches++;
	batch_add(&period->sum, batch);
	period->most_items = Max(period->most_items, batch->items);
	period->longest_us = Max(period->longest_us, batch->us);
}

int64 *
ps_meter_latency(void)
{
	return present_period(GetCurrentTimestamp())->latency;
}

void
ps_meter_add(PsMeterSum *sum, const PsMeter *other, TimestampTz now)
{
	double		items;
	double		done;

	ps_rate_read(other->rates, other->begun, now, &items, &done);
	sum->items_per_second += items;
	sum->done_per_second += done;
	sum->memory_bytes += other->memory_bytes;
	sum->begun = sum->begun == 0 ? other->begun : Min(sum->begun, other->begun);
	for (int i = 0; i < PS_METER_PERIODS; i++)
	{
		const PsMeterPeriod *period = &other->periods[i];

		if (!is_recent(period->period, now))
			continue;
		sum->minute.batches += period->batches;
		batch_add(&sum->minute.sum, &period->sum);
		sum->minute.most_items = Max(sum->minute.most_items, period->most_items);
		sum->minute.longest_us = Max(sum->minute.longest_us, period->longest_us);
		for (int b = 0; b < PS_HISTOGRAM_BUCKETS; b++)
			sum->minute.latency[b] += period->latency[b];
	}
}

dsm_segment *
ps_segment_open(uint32 handle, bool *ours)
{
	dsm_segment *segment = dsm_find_mapping(handle);

	*ours = segment != NULL;
	return segment != NULL ? segment : dsm_attach(handle);
}

void
ps_segment_close(dsm_segment *segment, bool ours)
{
	if (!ours)
		dsm_detach(segment);
}
