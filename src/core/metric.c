/*
 * metric.c
 *	  The built-in metrics. Finds metrics and series, and makes samples of events.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "core/metric.h"
#include "core/value.h"
#include "datatype/timestamp.h"
#include "lib/stringinfo.h"

static const PsMetric builtins[] = {
	{"transaction_count_30d", PS_SERIES_TRANSACTIONS, PS_AGGREGATE_COUNT,.window_us = 30 * USECS_PER_DAY},
	{"total_transaction_value_30d", PS_SERIES_TRANSACTIONS, PS_AGGREGATE_SUM,.window_us = 30 * USECS_PER_DAY},
	{"login_count_7d", PS_SERIES_LOGINS, PS_AGGREGATE_COUNT,.window_us = 7 * USECS_PER_DAY},
	{"support_ticket_count_90d", PS_SERIES_SUPPORT_TICKETS, PS_AGGREGATE_COUNT,.window_us = 90 * USECS_PER_DAY},
};

static const char *const builtin_series[PS_BUILTIN_SERIES] = {
	"transactions", "logins", "support_tickets"
};

static const char *const aggregates[] = {
	[PS_AGGREGATE_COUNT] = "count",
	[PS_AGGREGATE_SUM] = "sum",
	[PS_AGGREGATE_AVG] = "avg",
	[PS_AGGREGATE_MIN] = "min",
	[PS_AGGREGATE_MAX] = "max",
	[PS_AGGREGATE_DISTINCT] = "distinct",
	[PS_AGGREGATE_FIRST] = "first",
	[PS_AGGREGATE_LAST] = "last",
	[PS_AGGREGATE_PERCENTILE] = "percentile",
	[PS_AGGREGATE_MEDIAN] = "median",
	[PS_AGGREGATE_STDDEV] = "stddev"
};

static int
compare_names(const void *a, const void *b)
{
	return strcmp(((const PsMetric *) a)->name, ((const PsMetric *) b)->name);
}

const PsMetric *
ps_metric_find(const PsMetrics *metrics, const char *name)
{
	PsMetric	key = {.name = name};

	for (int i = 0; i < lengthof(builtins); i++)
		if (strcmp(builtins[i].name, name) == 0)
			return &builtins[i];
	if (metrics == NULL || metrics->nmetrics == 0)
		return NULL;
	return bsearch(&key, metrics->metrics, metrics->nmetrics, sizeof(PsMetric), compare_names);
}

const PsMetric *
ps_metric_builtins(int *n)
{
	*n = lengthof(builtins);
	return builtins;
}

bool
ps_aggregate_find(const char *name, PsAggregate *aggregate)
{
	for (int i = 0; i < lengthof(aggregates); i++)
		if (strcmp(name, aggregates[i]) == 0)
		{
			*aggregate = i;
			return true;
		}
	return false;
}

const char *
ps_aggregate_names(void)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < lengthof(aggregates); i++)
		appendStringInfo(&names, "%s%s", i == 0 ? "" : i == lengthof(aggregates) - 1 ? " and " : ", ", aggregates[i]);
	return names.data;
}

const char *
ps_series_name(uint32 series)
{
	return series < PS_BUILTIN_SERIES ? builtin_series[series] : psprintf("series_%u", series);
}

TimestampTz
ps_metric_from(const PsMetric *metric, TimestampTz as_of)
{
	switch (metric->period)
	{
		case PS_PERIOD_NONE:
			break;
		case PS_PERIOD_LIFETIME:
			return DT_NOBEGIN;
		default:
			/* the zone's file may have gone since the metric was created: then this raises */
			return ps_period_begin(metric->period, metric->zone != NULL ? metric->zone : ps_zone_find(metric->time_zone, false), as_of);
	}
	return as_of - metric->window_us;
}

static int
compare_numbers(const void *a, const void *b)
{
	uint32		x = ((const PsSeriesWindow *) a)->series;
	uint32		y = ((const PsSeriesWindow *) b)->series;

	return x < y ? -1 : x > y;
}

int64
ps_series_window_us(const PsMetrics *metrics, uint32 series)
{
	PsSeriesWindow key = {.series = series};
	const PsSeriesWindow *found = NULL;
	int64		longest = -1;

	if (series >= PS_BUILTIN_SERIES)
	{
		if (metrics->nseries > 0)
			found = bsearch(&key, metrics->series, metrics->nseries, sizeof(PsSeriesWindow), compare_numbers);
		return found == NULL ? -1 : found->window_us;
	}
	for (int i = 0; i < lengthof(builtins); i++)
		if (builtins[i].series == series)
			longest = Max(longest, builtins[i].window_us);
	return longest;
}

const char *
ps_feed_init(PsFeed *feed)
{
	const char *wrong = ps_filter_init_path(feed->value_path_text, &feed->value_path);

	return wrong != NULL ? wrong : ps_filter_init(&feed->filter);
}

PsReject *
ps_feed_read(const PsFeed *feed, const PsEvent *event, PsFeedSample *sample)
{
	PsReject   *reject;
	PsField		field;
	JsonbValue	value;

	sample->value = NULL;
	sample->is_there = ps_filter_passes(&feed->filter, event);
	if (!sample->is_there || feed->value_path_text == NULL)
		return NULL;
	field = ps_path_find(event, &feed->value_path);
	if (feed->is_distinct)
	{
		reject = ps_value_read(&field, PS_VALUE_TEXT, feed->value_path_text, &value);
		if (reject == NULL && value.type == jbvString)
			sample->value = int64_to_numeric(hash_bytes((const unsigned char *) value.val.string.val, value.val.string.len));
	}
	else
		reject = ps_value_read_number(&field, feed->value_path_text, &sample->value);
	sample->is_there = sample->value != NULL;
	return reject;
}
