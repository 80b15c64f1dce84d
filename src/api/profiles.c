/*
 * profiles.c
 *	  Functions of the views of profiles: the values of metrics at a moment, and the
 *	  samples behind them.
 */
#include "postgres.h"

#include "api/metric_values.h"
#include "core/iso8601.h"
#include "core/timestamp.h"
#include "core/totals.h"
#include "core/value.h"
#include "core/window_value.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/primnodes.h"
#include "store/chunk_value.h"
#include "store/extension.h"
#include "store/profile_reader.h"
#include "store/rule_catalog.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#define MAX_NAMED_METRICS 20	/* in a hint */

/* The metric of the last row, kept for the next one. */
typedef struct MetricOfCall
{
	PsMetric	metric;			/* without its name */
	bool		is_builtin;
	bool		is_fixed;		/* the name is a constant of the statement */
	uint64		loads;			/* ps_rules_loads() when it was found */
	int			name_len;
	char		name[NAMEDATALEN];
} MetricOfCall;

/* The names of metrics, for a hint. */
static const char *
name_metrics(void)
{
	const PsMetrics *metrics = &ps_rules_get()->metrics;
	const PsMetric *builtins;
	StringInfoData names;
	int			nbuiltins;

	builtins = ps_metric_builtins(&nbuiltins);
	initStringInfo(&names);
	for (int i = 0; i < nbuiltins; i++)
		appendStringInfo(&names, "%s%s", i == 0 ? "" : ", ", builtins[i].name);
	for (int i = 0; i < Min(metrics->nmetrics, MAX_NAMED_METRICS); i++)
		appendStringInfo(&names, ", %s", metrics->metrics[i].name);
	if (metrics->nmetrics > MAX_NAMED_METRICS)
		appendStringInfoString(&names, " and more of the table metrics");
	return names.data;
}

/* Finds a metric. The result is valid until the next call of ps_rules_get(). */
static const PsMetric *
find_metric(const text *name, bool *is_builtin)
{
	char	   *cname = text_to_cstring(name);
	const PsMetric *metric = ps_metric_find(NULL, cname);	/* a built-in metric needs no rules */

	*is_builtin = metric != NULL;
	if (metric == NULL)
		metric = ps_metric_find(&ps_rules_get()->metrics, cname);
	if (metric == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("metric \"%s\" does not exist", cname),
				 errhint("Metrics are %s.", name_metrics())));
	return metric;
}

const PsMetric *
ps_find_metric(const text *name)
{
	bool		is_builtin;

	return find_metric(name, &is_builtin);
}

/* Whether an argument is a constant. A parameter is none: PL/pgSQL calls the function again with another value. */
static bool
is_constant(FunctionCallInfo fcinfo, int argument)
{
	Node	   *call = fcinfo->flinfo->fn_expr;

	return call != NULL && IsA(call, FuncExpr) && IsA(list_nth(((FuncExpr *) call)->args, argument), Const);
}

/* The metric that an argument names, found once for all rows of a statement unless it changes. */
static const PsMetric *
metric_of_call(FunctionCallInfo fcinfo, int argument)
{
	MetricOfCall *kept = fcinfo->flinfo->fn_extra;
	const PsMetric *metric;
	bool		is_builtin;
	text	   *name;
	int			len;

	if (kept != NULL && kept->is_builtin && kept->is_fixed)
		return &kept->metric;
	name = PG_GETARG_TEXT_PP(argument);
	len = VARSIZE_ANY_EXHDR(name);
	if (kept != NULL && kept->name_len == len && memcmp(kept->name, VARDATA_ANY(name), len) == 0 &&
		(kept->is_builtin || (kept->loads == ps_rules_loads() && !ps_rules_are_stale())))
		return &kept->metric;
	metric = find_metric(name, &is_builtin);
	if (len > (int) sizeof(kept->name))
		return metric;
	if (kept == NULL)
		kept = fcinfo->flinfo->fn_extra = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(MetricOfCall));
	kept->metric = *metric;
	kept->metric.name = NULL;
	kept->is_builtin = is_builtin;
	kept->is_fixed = is_constant(fcinfo, argument);
	kept->loads = ps_rules_loads();
	kept->name_len = len;
	memcpy(kept->name, VARDATA_ANY(name), len);
	return &kept->metric;
}

static void
complain_of_state(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("window state is damaged")));
}

void
ps_load_window(PsWindow *window, bytea *state)
{
	if (!ps_window_load(window, VARDATA_ANY(state), VARSIZE_ANY_EXHDR(state)))
		complain_of_state();
}

void
ps_check_moment(TimestampTz as_of)
{
	if (TIMESTAMP_NOT_FINITE(as_of))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("as_of must be finite")));
}

/* Adds what the sealed chunks of a series have of a window. */
static void
add_sealed_chunks(PsWindowValue *value, const PsSeries *series, const text *customer_id, bool in_rebuild)
{
	MemoryContext caller = CurrentMemoryContext;

	SPI_connect();
	MemoryContextSwitchTo(caller);
	ps_chunks_value(in_rebuild, text_to_cstring(customer_id), ps_series_name(series->id), series->sealed_chunks, value);
	/* the value may point into a row of SPI */
	if (value->value != NULL)
		value->value = DatumGetNumericCopy(NumericGetDatum(value->value));
	SPI_finish();
}

/* Computes the value of a metric at a moment. series NULL: no samples. in_rebuild: of a profile in the rebuild schema. */
static void
compute_value(PsWindowValue *value, const PsSeries *series, const PsMetric *metric, const text *customer_id, TimestampTz as_of, bool in_rebuild)
{
	ps_window_value_init(value, metric, as_of, work_mem);
	if (series == NULL)
		return;
	if (series->is_lifetime)
		ps_window_value_add_totals(value, series);
	else if (series->sealed_to >= value->from_at)
		add_sealed_chunks(value, series, customer_id, in_rebuild);
	/* the open samples are younger than the sealed ones, so they come last */
	ps_window_value_add_samples(value, series->bytes, series->len);
}

Numeric
ps_value_as_of(const PsWindow *window, const PsMetric *metric, const text *customer_id, TimestampTz as_of, bool in_rebuild)
{
	PsWindowValue value;

	compute_value(&value, ps_window_find(window, metric->series), metric, customer_id, as_of, in_rebuild);
	return ps_window_value_result(&value);
}

/* Computes the value of a series in a window state. The arguments of the call from first_argument on are the metric and the moment. */
static void
value_of_call(FunctionCallInfo fcinfo, bytea *state, int first_argument, bool in_rebuild, PsWindowValue *value)
{
	const PsMetric *metric = metric_of_call(fcinfo, first_argument);
	TimestampTz as_of = PG_GETARG_TIMESTAMPTZ(first_argument + 1);
	PsSeries	series;
	bool		found = false;

	ps_check_moment(as_of);
	if (state != NULL && !ps_window_read(VARDATA_ANY(state), VARSIZE_ANY_EXHDR(state), metric->series, &series, &found))
		complain_of_state();
	compute_value(value, found ? &series : NULL, metric, PG_GETARG_TEXT_PP(0), as_of, in_rebuild);
}

static Datum
return_value(FunctionCallInfo fcinfo, PsWindowValue *value)
{
	Numeric		result = ps_window_value_result(value);

	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_NUMERIC(result);
}

static Datum
window_value(FunctionCallInfo fcinfo, bool in_rebuild)
{
	PsWindowValue value;

	value_of_call(fcinfo, PG_GETARG_BYTEA_PP(1), 2, in_rebuild, &value);
	return return_value(fcinfo, &value);
}

PS_FUNCTION(ps_metric_value);
static Datum
ps_metric_value_checked(PG_FUNCTION_ARGS)
{
	PsWindowValue value;

	value_of_call(fcinfo, ps_profile_window_read(PG_GETARG_TEXT_PP(0)), 1, false, &value);
	return return_value(fcinfo, &value);
}

/* For views, which show counts as integers: one of a numeric would be made for each row. */
PS_FUNCTION(ps_window_count);
static Datum
ps_window_count_checked(PG_FUNCTION_ARGS)
{
	PsWindowValue value;

	value_of_call(fcinfo, PG_GETARG_BYTEA_PP(1), 2, false, &value);
	if (value.aggregate != PS_AGGREGATE_COUNT && value.aggregate != PS_AGGREGATE_DISTINCT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("metric \"%s\" is not a count", text_to_cstring(PG_GETARG_TEXT_PP(2))),
				 errhint("Read it with window_value().")));
	if (value.is_unknown)
		PG_RETURN_NULL();
	PG_RETURN_INT64(ps_window_value_count(&value));
}

PS_FUNCTION(ps_window_value);
static Datum
ps_window_value_checked(PG_FUNCTION_ARGS)
{
	return window_value(fcinfo, false);
}

PS_FUNCTION(ps_rebuild_window_value);
static Datum
ps_rebuild_window_value_checked(PG_FUNCTION_ARGS)
{
	return window_value(fcinfo, true);
}

JsonbValue *
ps_push_metric_values(JsonbParseState **state, const PsWindow *window, const text *customer_id, TimestampTz as_of, bool in_rebuild)
{
	const PsMetrics *metrics = &ps_rules_get()->metrics;

	(void) pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < metrics->nmetrics; i++)
	{
		const PsMetric *metric = &metrics->metrics[i];
		JsonbValue	key = ps_value_string(metric->name, strlen(metric->name));
		Numeric		number = ps_value_as_of(window, metric, customer_id, as_of, in_rebuild);
		JsonbValue	value = {.type = jbvNull};

		if (number != NULL)
			value = ps_value_number(number);
		(void) pushJsonbValue(state, WJB_KEY, &key);
		(void) pushJsonbValue(state, WJB_VALUE, &value);
	}
	return pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

static Datum
metric_values(FunctionCallInfo fcinfo, bool in_rebuild)
{
	TimestampTz as_of = PG_GETARG_TIMESTAMPTZ(2);
	JsonbParseState *state = NULL;
	PsWindow	window;

	ps_check_moment(as_of);
	ps_load_window(&window, PG_GETARG_BYTEA_PP(1));
	return JsonbPGetDatum(JsonbValueToJsonb(ps_push_metric_values(&state, &window, PG_GETARG_TEXT_PP(0), as_of, in_rebuild)));
}

PS_FUNCTION(ps_metric_values);
static Datum
ps_metric_values_checked(PG_FUNCTION_ARGS)
{
	return metric_values(fcinfo, false);
}

PS_FUNCTION(ps_rebuild_metric_values);
static Datum
ps_rebuild_metric_values_checked(PG_FUNCTION_ARGS)
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

		CHECK_FOR_INTERRUPTS();
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

PS_FUNCTION(ps_chunk_samples);
static Datum
ps_chunk_samples_checked(PG_FUNCTION_ARGS)
{
	bytea	   *samples = PG_GETARG_BYTEA_PP(0);

	return_samples(fcinfo, VARDATA_ANY(samples), VARSIZE_ANY_EXHDR(samples));
	return (Datum) 0;
}

PS_FUNCTION(ps_window_samples);
static Datum
ps_window_samples_checked(PG_FUNCTION_ARGS)
{
	const PsMetric *metric = metric_of_call(fcinfo, 1);
	PsWindow	window;
	const PsSeries *series;

	ps_load_window(&window, PG_GETARG_BYTEA_PP(0));
	series = ps_window_find(&window, metric->series);
	return_samples(fcinfo, series == NULL ? NULL : series->bytes, series == NULL ? 0 : series->len);
	return (Datum) 0;
}

/* All samples of a window_state as rows (series, at, value), also those that no metric uses any more. */
PS_FUNCTION(ps_window_state_samples);
static Datum
ps_window_state_samples_checked(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PsWindow	window;

	ps_load_window(&window, PG_GETARG_BYTEA_PP(0));
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

			CHECK_FOR_INTERRUPTS();
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	}
	return (Datum) 0;
}

/* The totals of lifetime series of a window_state as rows. */
PS_FUNCTION(ps_window_state_totals);
static Datum
ps_window_state_totals_checked(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PsWindow	window;

	ps_load_window(&window, PG_GETARG_BYTEA_PP(0));
	InitMaterializedSRF(fcinfo, 0);
	for (int s = 0; s < window.nseries; s++)
	{
		PsTotals	totals;
		bool		nulls[9] = {false};
		Datum		values[9];

		CHECK_FOR_INTERRUPTS();
		ps_totals_read(&window.series[s], &totals);
		if (totals.count == 0)
			continue;
		values[0] = CStringGetTextDatum(ps_series_name(window.series[s].id));
		values[1] = Int64GetDatum(totals.count);
		values[2] = TimestampTzGetDatum(totals.from_at);
		values[3] = TimestampTzGetDatum(totals.to_at);
		values[4] = NumericGetDatum(totals.sum);
		values[5] = NumericGetDatum(totals.min);
		values[6] = NumericGetDatum(totals.max);
		values[7] = NumericGetDatum(totals.first);
		values[8] = NumericGetDatum(totals.last);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

PS_FUNCTION(ps_metric_series);
static Datum
ps_metric_series_checked(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(ps_series_name(metric_of_call(fcinfo, 0)->series)));
}

/* Whether prune_metrics() has work: a series that no metric uses, or whose open samples all are older than its window. */
PS_FUNCTION(ps_window_expired);
static Datum
ps_window_expired_checked(PG_FUNCTION_ARGS)
{
	const PsMetrics *metrics = &ps_rules_get()->metrics;
	PsWindow	window;

	ps_load_window(&window, PG_GETARG_BYTEA_PP(0));
	PG_RETURN_BOOL(ps_window_forget(&window, metrics) > 0 ||
				   ps_window_seal_expired(&window, metrics, PG_GETARG_TIMESTAMPTZ(1)) != NULL);
}

PS_FUNCTION(ps_json_timestamp);
static Datum
ps_json_timestamp_checked(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(ps_format_timestamp(PG_GETARG_TIMESTAMPTZ(0))));
}

/* Reads the time of an attribute, as attributes store it; null when it is none. */
PS_FUNCTION(ps_attribute_time);
static Datum
ps_attribute_time_checked(PG_FUNCTION_ARGS)
{
	char	   *value = text_to_cstring(PG_GETARG_TEXT_PP(0));
	TimestampTz at;

	if (!ps_timestamp_from_iso(value, strlen(value), &at))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(at);
}
