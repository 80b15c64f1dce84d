/*
 * metric_catalog.c
 *	  The tables metrics and metric_series. Metrics of the same values share a series,
 *	  whose samples stay exact for its longest window. A metric with a longer window
 *	  may join a series only while none of its samples was folded into day buckets.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "settings.h"
#include "storage/lmgr.h"
#include "store/chunk_store.h"
#include "store/metric_catalog.h"
#include "store/owner.h"
#include "store/plan.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

static PsPlan series_plan = {
	.sql = "SELECT s.series_id, s.event_types, s.value_path, s.is_distinct, s.filter_path, s.filter_value, s.filter_operator, s.sources, s.is_lifetime"
	" FROM profile_stream_internal.metric_series s ORDER BY s.series_id",
	.fixed_schema = true
};

static PsPlan metrics_plan = {
	.sql = "SELECT m.name, m.series_id, m.aggregate, (EXTRACT(epoch FROM m.\"window\") * 1000000)::int8, m.fraction, m.period, m.time_zone"
	" FROM profile_stream_internal.metrics m ORDER BY m.name",
	.fixed_schema = true
};

/* What tells one series from another. */
#define SERIES_ARGS \
	.nargs = 8,.argtypes = {BOOLOID, TEXTARRAYOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, BOOLOID},.fixed_schema = true

static PsPlan find_series_plan = {
	.sql = "SELECT s.series_id, (SELECT pg_catalog.max(EXTRACT(epoch FROM m.\"window\") * 1000000)::int8"
	" FROM profile_stream_internal.metrics m WHERE m.series_id = s.series_id) AS longest"
	" FROM profile_stream_internal.metric_series s WHERE s.is_distinct = $1 AND s.is_lifetime = $8"
	" AND (s.event_types, s.filter_operator, s.value_path, s.filter_path, s.filter_value, s.sources) IS NOT DISTINCT FROM ($2, $3, $4, $5, $6, $7)"
	" ORDER BY longest DESC NULLS LAST, s.series_id LIMIT 1",
	SERIES_ARGS
};

static PsPlan count_series_plan = {
	.sql = "SELECT pg_catalog.count(*) FROM profile_stream_internal.metric_series",.fixed_schema = true
};

static PsPlan add_series_plan = {
	.sql = "INSERT INTO profile_stream_internal.metric_series (is_distinct, event_types, filter_operator, value_path, filter_path, filter_value, sources, is_lifetime)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING series_id",
	SERIES_ARGS
};

static PsPlan exists_plan = {
	.sql = "SELECT FROM profile_stream_internal.metrics m WHERE m.name = $1",
	.nargs = 1,.argtypes = {TEXTOID},.fixed_schema = true
};

static PsPlan add_plan = {
	.sql = "INSERT INTO profile_stream_internal.metrics (name, series_id, aggregate, \"window\", fraction, period, time_zone)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7)",
	.nargs = 7,.argtypes = {TEXTOID, INT4OID, TEXTOID, INTERVALOID, NUMERICOID, TEXTOID, TEXTOID},.fixed_schema = true
};

static PsPlan remove_plan = {
	.sql = "DELETE FROM profile_stream_internal.metrics m WHERE m.name = $1",
	.nargs = 1,.argtypes = {TEXTOID},.fixed_schema = true
};

static PsPlan remove_series_plan = {
	.sql = "DELETE FROM profile_stream_internal.metric_series s"
	" WHERE NOT EXISTS (SELECT FROM profile_stream_internal.metrics m WHERE m.series_id = s.series_id)",
	.fixed_schema = true
};

static Datum
get_datum(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

/* Adds a feed to the rules of each event type that it takes. */
static void
add_feed(PsRules *rules, const PsTextSet *event_types, const PsFeed *feed)
{
	for (int i = 0; i < event_types->n; i++)
	{
		PsEventRules *of_type = ps_rules_of_type(rules, event_types->texts[i]);

		of_type->feeds = of_type->nfeeds == 0 ? palloc(sizeof(PsFeed)) : repalloc(of_type->feeds, (of_type->nfeeds + 1) * sizeof(PsFeed));
		of_type->feeds[of_type->nfeeds++] = *feed;
	}
}

static void
load_series(PsRules *rules)
{
	PsMetrics  *metrics = &rules->metrics;
	uint64		n = ps_plan_read(&series_plan, NULL);
	bool		isnull;

	metrics->series = palloc0(Max(n, 1) * sizeof(PsSeriesWindow));
	metrics->nseries = n;
	for (uint64 i = 0; i < n; i++)
	{
		PsTextSet	event_types = ps_plan_texts(i, 2);
		PsFeed		feed = {
			.series = DatumGetInt32(get_datum(i, 1, &isnull)),
			.value_path_text = ps_plan_text(i, 3),
			.is_distinct = DatumGetBool(get_datum(i, 4, &isnull)),
			.filter = {.path_text = ps_plan_text(i, 5),.value = ps_plan_text(i, 6),.operator_text = ps_plan_text(i, 7),.sources = ps_plan_texts(i, 8)}
		};
		const char *wrong = ps_feed_init(&feed);

		feed.is_lifetime = DatumGetBool(get_datum(i, 9, &isnull));
		if (wrong != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("series %u of metrics: %s", feed.series, wrong),
					 errhint("Remove its metrics with drop_metric().")));
		metrics->series[i].series = feed.series;
		add_feed(rules, &event_types, &feed);
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Sets the period of a metric that has one. A zone that is gone stops no stream: values of the metric cannot be read. */
static void
load_period(PsMetric *metric, const char *period, const char *time_zone)
{
	metric->period = PS_PERIOD_NONE;
	metric->time_zone = time_zone;
	metric->zone = time_zone == NULL ? NULL : ps_zone_find(time_zone, true);
	if (period != NULL && !ps_period_find(period, &metric->period))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("metric \"%s\" has a period that is not known", metric->name),
				 errhint("Remove it with drop_metric().")));
}

static void
load_metrics(PsMetrics *metrics)
{
	uint64		n = ps_plan_read(&metrics_plan, NULL);
	bool		isnull;

	metrics->metrics = palloc(Max(n, 1) * sizeof(PsMetric));
	metrics->nmetrics = n;
	for (uint64 i = 0; i < n; i++)
	{
		PsMetric   *metric = &metrics->metrics[i];
		Datum		value;

		metric->name = ps_plan_text(i, 1);
		metric->series = DatumGetInt32(get_datum(i, 2, &isnull));
		metric->window_us = DatumGetInt64(get_datum(i, 4, &isnull));
		value = get_datum(i, 5, &isnull);
		metric->fraction = isnull ? NULL : DatumGetNumericCopy(value);
		load_period(metric, ps_plan_text(i, 6), ps_plan_text(i, 7));
		if (!ps_aggregate_find(ps_plan_text(i, 3), &metric->aggregate))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("metric \"%s\" has an aggregate that is not known", metric->name),
					 errhint("Remove it with drop_metric().")));
		for (int s = 0; s < metrics->nseries; s++)
			if (metrics->series[s].series == metric->series)
				metrics->series[s].window_us = Max(metrics->series[s].window_us, metric->window_us);
	}
	SPI_freetuptable(SPI_tuptable);
}

void
ps_metrics_load(PsRules *rules)
{
	load_series(rules);
	load_metrics(&rules->metrics);
}

bool
ps_metrics_lock(LOCKMODE mode, bool wait)
{
	Oid			relid = ps_own_table(false, "metrics");

	if (!wait)
		return ConditionalLockRelationOid(relid, mode);
	LockRelationOid(relid, mode);
	return true;
}

/* Finds a series that a metric can share, or adds one. */
static uint32
series_for(const PsMetricDefinition *definition)
{
	const PsFeed *feed = &definition->feed;
	const char *texts[3] = {feed->value_path_text, feed->filter.path_text, feed->filter.value};
	Datum		args[8] = {BoolGetDatum(feed->is_distinct), ps_text_set_array(&definition->event_types), CStringGetTextDatum(feed->filter.operator_text)};
	char		nulls[9] = "        ";
	bool		isnull;

	for (int i = 0; i < 3; i++)
	{
		if (texts[i] != NULL)
			args[i + 3] = CStringGetTextDatum(texts[i]);
		else
			nulls[i + 3] = 'n';
	}
	args[6] = ps_text_set_array(&feed->filter.sources);
	args[7] = BoolGetDatum(feed->is_lifetime);
	if (feed->filter.sources.n == 0)
		nulls[6] = 'n';
	if (ps_plan_run(&find_series_plan, args, nulls, SPI_OK_SELECT) > 0)
	{
		uint32		series = DatumGetInt32(get_datum(0, 1, &isnull));
		int64		longest = DatumGetInt64(get_datum(0, 2, &isnull));

		if ((!isnull && longest >= definition->metric.window_us) || !ps_chunks_are_folded(ps_series_name(series)))
			return series;
	}
	if (ps_plan_number(&count_series_plan, NULL) >= PS_MAX_SERIES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("there are already %d series of metrics", PS_MAX_SERIES),
				 errhint("Drop a metric with drop_metric(). Metrics of one event type with the same paths share a series.")));
	if (ps_plan_run(&add_series_plan, args, nulls, SPI_OK_INSERT_RETURNING) == 0)
		ps_plan_complain("metric_series", 1, 1);
	return DatumGetInt32(get_datum(0, 1, &isnull));
}

bool
ps_metrics_add(PsMetricDefinition *definition)
{
	const PsMetric *metric = &definition->metric;
	Datum		args[7] = {CStringGetTextDatum(metric->name)};
	char		nulls[7] = {' ', ' ', ' ', ' ', metric->fraction == NULL ? 'n' : ' ', definition->period == NULL ? 'n' : ' ', metric->time_zone == NULL ? 'n' : ' '};

	if (ps_plan_run(&exists_plan, args, NULL, SPI_OK_SELECT) > 0)
		return false;
	definition->metric.series = series_for(definition);
	args[1] = Int32GetDatum(definition->metric.series);
	args[2] = CStringGetTextDatum(definition->aggregate);
	args[3] = IntervalPGetDatum(&definition->window);
	args[4] = NumericGetDatum(metric->fraction);
	if (definition->period != NULL)
		args[5] = CStringGetTextDatum(definition->period);
	if (metric->time_zone != NULL)
		args[6] = CStringGetTextDatum(metric->time_zone);
	(void) ps_plan_run(&add_plan, args, nulls, SPI_OK_INSERT);
	return true;
}

bool
ps_metrics_remove(const char *name)
{
	Datum		args[1] = {CStringGetTextDatum(name)};

	if (ps_plan_run(&remove_plan, args, NULL, SPI_OK_DELETE) == 0)
		return false;
	(void) ps_plan_run(&remove_series_plan, NULL, NULL, SPI_OK_DELETE);
	return true;
}

bool
ps_profiles_have_column(const char *name)
{
	Oid			relid = get_relname_relid("profiles", ps_own_schema(false));

	return get_attnum(relid, name) != InvalidAttrNumber;
}
