/*
 * profiles.c
 *	  Reading windows of a profile row: values as of a moment, and the samples.
 */
#include "postgres.h"

#include "core/format.h"
#include "core/window.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "store/chunk_store.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* Finds the metric, or says which there are. */
static const PsMetric *
find_metric(text *name)
{
	char	   *cname = text_to_cstring(name);
	const PsMetric *metric = ps_metric_find(cname);

	if (metric == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("metric \"%s\" does not exist", cname),
				 errhint("Metrics are transaction_count_30d, total_transaction_value_30d, login_count_7d and support_ticket_count_90d.")));
	return metric;
}

/* Unpacks a window state argument. */
static void
load_window(PsWindow *window, bytea *state)
{
	if (!ps_window_load(window, VARDATA_ANY(state), VARSIZE_ANY_EXHDR(state)))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("window state is damaged")));
}

/* A metric's value over [as_of - window, as_of], of a profile or of its shadow. */
static Datum
window_value(FunctionCallInfo fcinfo, bool shadow)
{
	text	   *customer_id = PG_GETARG_TEXT_PP(0);
	bytea	   *state = PG_GETARG_BYTEA_PP(1);
	const PsMetric *metric = find_metric(PG_GETARG_TEXT_PP(2));
	TimestampTz as_of = PG_GETARG_TIMESTAMPTZ(3);
	TimestampTz from_at = as_of - ps_metric_window_us(metric);
	PsWindow	window;
	PsSeries   *series;
	PsWindowValue value;

	if (TIMESTAMP_NOT_FINITE(as_of))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("as_of must be finite")));
	load_window(&window, state);
	series = &window.series[metric->series];
	ps_window_value_init(&value);
	ps_window_value_add_samples(&value, series->bytes, series->len, from_at, as_of);
	if (series->sealed_to >= from_at)
	{
		MemoryContext caller = CurrentMemoryContext;
		Datum		sum;

		SPI_connect();
		ps_chunks_value(shadow, text_to_cstring(customer_id), ps_series_name(metric->series), from_at, as_of, &value);
		MemoryContextSwitchTo(caller);
		sum = PointerGetDatum(PG_DETOAST_DATUM_COPY(NumericGetDatum(value.sum)));
		SPI_finish();
		value.sum = DatumGetNumeric(sum);
	}
	if (metric->aggregate == PS_AGGREGATE_COUNT)
		PG_RETURN_NUMERIC(int64_to_numeric(value.count));
	PG_RETURN_NUMERIC(value.sum);
}

PG_FUNCTION_INFO_V1(ps_window_value);
Datum
ps_window_value(PG_FUNCTION_ARGS)
{
	return window_value(fcinfo, false);
}

PG_FUNCTION_INFO_V1(ps_shadow_window_value);
Datum
ps_shadow_window_value(PG_FUNCTION_ARGS)
{
	return window_value(fcinfo, true);
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
	PsSeries   *series;

	load_window(&window, PG_GETARG_BYTEA_PP(0));
	series = &window.series[metric->series];
	return_samples(fcinfo, series->bytes, series->len);
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(ps_metric_series);
Datum
ps_metric_series(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(ps_series_name(find_metric(PG_GETARG_TEXT_PP(0))->series)));
}

/* Whether some open chunk holds nothing but samples older than its window. */
PG_FUNCTION_INFO_V1(ps_window_expired);
Datum
ps_window_expired(PG_FUNCTION_ARGS)
{
	PsWindow	window;

	load_window(&window, PG_GETARG_BYTEA_PP(0));
	PG_RETURN_BOOL(ps_window_seal_expired(&window, PG_GETARG_TIMESTAMPTZ(1)) != NULL);
}

PG_FUNCTION_INFO_V1(ps_json_timestamp);
Datum
ps_json_timestamp(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(ps_format_timestamp(PG_GETARG_TIMESTAMPTZ(0))));
}
