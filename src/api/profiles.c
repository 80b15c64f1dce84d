/*
 * profiles.c
 *	  Functions of the views of profiles: the values of metrics at a moment, and the
 *	  samples behind them.
 */
#include "postgres.h"

#include "core/iso8601.h"
#include "core/timestamp.h"
#include "core/value.h"
#include "core/window_value.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "store/chunk_store.h"
#include "store/rule_catalog.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* Finds a metric. The result is valid until the next call of ps_rules_get(). */
static const PsMetric *
find_metric(text *name)
{
	char	   *cname = text_to_cstring(name);
	const PsMetric *metric = ps_metric_find(NULL, cname);	/* a built-in metric needs no rules */

	if (metric == NULL)
		metric = ps_metric_find(&ps_rules_get()->metrics, cname);
	if (metric == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("metric \"%s\" does not exist", cname),
				 errhint("Metrics are transaction_count_30d, total_transaction_value_30d, login_count_7d, support_ticket_count_90d"
						 " and those of the table metrics.")));
	return metric;
}

/* Unpacks the column window_state. */
static void
load_window(PsWindow *window, bytea *state)
{
	if (!ps_window_load(window, VARDATA_ANY(state), VARSIZE_ANY_EXHDR(state)))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("window state is damaged")));
}

static void
check_moment(TimestampTz as_of)
{
	if (TIMESTAMP_NOT_FINITE(as_of))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("as_of must be finite")));
}

/* The value of a metric at a moment; NULL: none. in_rebuild: of a profile in the rebuild schema. */
static Numeric
value_as_of(const PsWindow *window, const PsMetric *metric, text *customer_id, TimestampTz as_of, bool in_rebuild)
{
	const PsSeries *series = ps_window_find(window, metric->series);
	PsWindowValue value;

	ps_window_value_init(&value, metric, as_of);
	if (series != NULL && series->sealed_to >= value.from_at)
	{
		MemoryContext caller = CurrentMemoryContext;

		SPI_connect();
		MemoryContextSwitchTo(caller);
		ps_chunks_value(in_rebuild, text_to_cstring(customer_id), ps_series_name(series->id), &value);
		/* the value may point into a row of SPI */
		if (value.value != NULL)
			value.value = DatumGetNumericCopy(NumericGetDatum(value.value));
		SPI_finish();
	}
	/* the open samples are younger than the sealed ones, so they come last */
	if (series != NULL)
		ps_window_value_add_samples(&value, series->bytes, series->len);
	return ps_window_value_result(&value);
}

static Datum
window_value(FunctionCallInfo fcinfo, bool in_rebuild)
{
	const PsMetric *metric = find_metric(PG_GETARG_TEXT_PP(2));
	TimestampTz as_of = PG_GETARG_TIMESTAMPTZ(3);
	PsWindow	window;
	Numeric		value;

	check_moment(as_of);
	load_window(&window, PG_GETARG_BYTEA_PP(1));
	value = value_as_of(&window, metric, PG_GETARG_TEXT_PP(0), as_of, in_rebuild);
	if (value == NULL)
		PG_RETURN_NULL();
	PG_RETURN_NUMERIC(value);
}

PG_FUNCTION_INFO_V1(ps_window_value);
Datum
ps_window_value(PG_FUNCTION_ARGS)
{
	return window_value(fcinfo, false);
}

PG_FUNCTION_INFO_V1(ps_rebuild_window_value);
Datum
ps_rebuild_window_value(PG_FUNCTION_ARGS)
{
	return window_value(fcinfo, true);
}

/* The values of all metrics that users have created, as an object. */
static Datum
metric_values(FunctionCallInfo fcinfo, bool in_rebuild)
{
	const PsMetrics *metrics = &ps_rules_get()->metrics;
	TimestampTz as_of = PG_GETARG_TIMESTAMPTZ(2);
	JsonbParseState *state = NULL;
	PsWindow	window;

	check_moment(as_of);
	load_window(&window, PG_GETARG_BYTEA_PP(1));
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < metrics->nmetrics; i++)
	{
		const PsMetric *metric = &metrics->metrics[i];
		JsonbValue	key = ps_value_string(metric->name, strlen(metric->name));
		Numeric		number = value_as_of(&window, metric, PG_GETARG_TEXT_PP(0), as_of, in_rebuild);
		JsonbValue	value = {.type = jbvNull};

		if (number != NULL)
			value = ps_value_number(number);
		(void) pushJsonbValue(&state, WJB_KEY, &key);
		(void) pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

PG_FUNCTION_INFO_V1(ps_metric_values);
Datum
ps_metric_values(PG_FUNCTION_ARGS)
{
	return metric_values(fcinfo, false);
}

PG_FUNCTION_INFO_V1(ps_rebuild_metric_values);
Datum
ps_rebuild_metric_values(PG_FUNCTION_ARGS)
{
	return metric_values(fcinfo, true);
}

/* Returns packed samples as rows (at, value). */
static void
return_samples(FunctionCallInfo fcinfo, const char *bytes, int len)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			n;
	PsSample   *samples;

	InitMaterializedSRF(fcinfo, 0);
	samples = ps_samples_unpack(bytes, len, &n);
	for (int i = 0; i < n; i++)
	{
		Datum		values[2] = {TimestampTzGetDatum(samples[i].at), NumericGetDatum(samples[i].value)};
		bool		nulls[2] = {false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

PG_FUNCTION_INFO_V1(ps_chunk_samples);
Datum
ps_chunk_samples(PG_FUNCTION_ARGS)
{
	bytea	   *samples = PG_GETARG_BYTEA_PP(0);

	return_samples(fcinfo, VARDATA_ANY(samples), VARSIZE_ANY_EXHDR(samples));
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(ps_window_samples);
Datum
ps_window_samples(PG_FUNCTION_ARGS)
{
	const PsMetric *metric = find_metric(PG_GETARG_TEXT_PP(1));
	PsWindow	window;
	const PsSeries *series;

	load_window(&window, PG_GETARG_BYTEA_PP(0));
	series = ps_window_find(&window, metric->series);
	return_samples(fcinfo, series == NULL ? NULL : series->bytes, series == NULL ? 0 : series->len);
	return (Datum) 0;
}

/* All samples of a window_state as rows (series, at, value), also those that no metric uses any more. */
PG_FUNCTION_INFO_V1(ps_window_state_samples);
Datum
ps_window_state_samples(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PsWindow	window;

	load_window(&window, PG_GETARG_BYTEA_PP(0));
	InitMaterializedSRF(fcinfo, 0);
	for (int s = 0; s < window.nseries; s++)
	{
		const PsSeries *series = &window.series[s];
		int			n;
		PsSample   *samples = ps_samples_unpack(series->bytes, series->len, &n);
		Datum		name = CStringGetTextDatum(ps_series_name(series->id));

		for (int i = 0; i < n; i++)
		{
			Datum		values[3] = {name, TimestampTzGetDatum(samples[i].at), NumericGetDatum(samples[i].value)};
			bool		nulls[3] = {false, false, false};

			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	}
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(ps_metric_series);
Datum
ps_metric_series(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(ps_series_name(find_metric(PG_GETARG_TEXT_PP(0))->series)));
}

PG_FUNCTION_INFO_V1(ps_metric_aggregate);
Datum
ps_metric_aggregate(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(ps_aggregate_name(find_metric(PG_GETARG_TEXT_PP(0))->aggregate)));
}

/* Whether prune_metrics() has work: a series that no metric uses, or whose open samples all are older than its window. */
PG_FUNCTION_INFO_V1(ps_window_expired);
Datum
ps_window_expired(PG_FUNCTION_ARGS)
{
	const PsMetrics *metrics = &ps_rules_get()->metrics;
	PsWindow	window;

	load_window(&window, PG_GETARG_BYTEA_PP(0));
	PG_RETURN_BOOL(ps_window_forget(&window, metrics) > 0 ||
				   ps_window_seal_expired(&window, metrics, PG_GETARG_TIMESTAMPTZ(1)) != NULL);
}

PG_FUNCTION_INFO_V1(ps_json_timestamp);
Datum
ps_json_timestamp(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(ps_format_timestamp(PG_GETARG_TIMESTAMPTZ(0))));
}

/* Reads the time of an attribute, as attributes store it; null when it is none. */
PG_FUNCTION_INFO_V1(ps_attribute_time);
Datum
ps_attribute_time(PG_FUNCTION_ARGS)
{
	char	   *value = text_to_cstring(PG_GETARG_TEXT_PP(0));
	TimestampTz at;

	if (!ps_timestamp_from_iso(value, strlen(value), &at))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(at);
}
