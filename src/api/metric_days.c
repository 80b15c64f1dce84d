/*
 * metric_days.c
 *	  Sums by day of one profile. metric_days() calls this for each profile of a scan,
 *	  so that it reads all customers without a statement for each.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "api/metric_values.h"
#include "core/day_sums.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "store/chunk_reader.h"
#include "store/extension.h"
#include "store/profile_reader.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/memutils.h"

/* What a call of the function in a query keeps from row to row. */
typedef struct DaysCall
{
	text	   *metric;			/* arguments for which the fields below were made */
	text	   *time_zone;
	DateADT		from_day;
	DateADT		to_day;
	uint32		series;
	bool		has_values;		/* false: the samples are hashes of distinct values */
	TupleDesc	desc;
	MemoryContext context;		/* what is kept */
	MemoryContext row_context;	/* what belongs to one row */
	PsDaySums	sums;
	int			next;			/* the sum that is returned next; -1: no row is under way */
	bool		is_watched;		/* forget_row() will be called when the query ends or begins again */
	const text *customer_id;
} DaysCall;

/* Finds a metric that has days, or raises. */
static const PsMetric *
find_metric_with_days(const text *name)
{
	const PsMetric *metric = ps_find_metric(name);

	if (metric->period == PS_PERIOD_LIFETIME)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("metric \"%s\" has no days", metric->name),
				 errhint("A metric of a lifetime keeps totals alone. Create one with a window, whose samples are kept.")));
	return metric;
}

/* Raises for a metric or a time zone that does not exist, also when there are no profiles. */
PS_FUNCTION(ps_check_days);
static Datum
ps_check_days_checked(PG_FUNCTION_ARGS)
{
	(void) find_metric_with_days(PG_GETARG_TEXT_PP(0));
	(void) ps_zone_find(text_to_cstring(PG_GETARG_TEXT_PP(1)), false);
	PG_RETURN_BOOL(true);
}

static bool
is_same_text(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) && memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

static text *
copy_text(const text *original)
{
	return cstring_to_text_with_len(VARDATA_ANY(original), VARSIZE_ANY_EXHDR(original));
}

/* Takes over the arguments from the metric on, which are the same for each row, unless it has them already. */
static void
take_arguments(DaysCall *call, FunctionCallInfo fcinfo, int first)
{
	text	   *metric = PG_GETARG_TEXT_PP(first);
	text	   *time_zone = PG_GETARG_TEXT_PP(first + 3);
	DateADT		from_day = PG_GETARG_DATEADT(first + 1);
	DateADT		to_day = PG_GETARG_DATEADT(first + 2);
	const PsMetric *found;
	MemoryContext caller;

	if (call->metric != NULL && is_same_text(call->metric, metric) && is_same_text(call->time_zone, time_zone) &&
		call->from_day == from_day && call->to_day == to_day)
		return;
	found = find_metric_with_days(metric);
	call->series = found->series;
	call->has_values = found->aggregate != PS_AGGREGATE_DISTINCT;
	call->from_day = from_day;
	call->to_day = to_day;
	ps_day_sums_init(&call->sums, call->from_day, call->to_day, ps_zone_find(text_to_cstring(time_zone), false));
	caller = MemoryContextSwitchTo(call->context);
	call->metric = copy_text(metric);
	call->time_zone = copy_text(time_zone);
	MemoryContextSwitchTo(caller);
}

static DaysCall *
make_call(FunctionCallInfo fcinfo)
{
	MemoryContext caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	DaysCall   *call = palloc0(sizeof(DaysCall));

	call->context = CurrentMemoryContext;
	call->row_context = AllocSetContextCreate(CurrentMemoryContext, "days of a profile", ALLOCSET_DEFAULT_SIZES);
	call->next = -1;
	if (get_call_result_type(fcinfo, NULL, &call->desc) != TYPEFUNC_COMPOSITE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("function returning record called in context that cannot accept type record")));
	call->desc = BlessTupleDesc(CreateTupleDescCopy(call->desc));
	MemoryContextSwitchTo(caller);
	return call;
}

/* The query ends, or begins again, perhaps before all days of a profile were taken. */
static void
forget_row(Datum arg)
{
	DaysCall   *call = (DaysCall *) DatumGetPointer(arg);

	call->next = -1;
	call->is_watched = false;
}

static void
add_chunk(const PsReadChunk *chunk, void *arg)
{
	DaysCall   *call = arg;

	if (chunk->chunk.samples != NULL)
		ps_day_sums_add_chunk(&call->sums, &chunk->chunk);
	for (int i = 0; i < chunk->nbuckets; i++)
		if (!ps_day_sums_add_bucket(&call->sums, &chunk->buckets[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("samples of customer \"%s\" were folded into days of UTC, which are no days of time zone \"%s\"",
							text_to_cstring(call->customer_id), text_to_cstring(call->time_zone)),
					 errhint("Ask for later days, or for days of UTC.")));
}

/* Adds up the days of a profile. */
static void
add_profile(DaysCall *call, text *customer_id, bytea *state)
{
	TimestampTz from = ps_day_sums_from(&call->sums);
	PsWindow	window;
	const PsSeries *series;

	ps_load_window(&window, state);
	series = ps_window_find(&window, call->series);
	if (series == NULL)
		return;
	call->customer_id = customer_id;
	ps_day_sums_add_samples(&call->sums, series->bytes, series->len);
	if (series->sealed_to >= from && !TIMESTAMP_IS_NOBEGIN(series->sealed_to))
		ps_chunks_read(customer_id, ps_series_name(series->id), from, add_chunk, call);
}

static HeapTuple
make_row(const DaysCall *call, const PsDaySum *sum)
{
	Datum		values[5] = {
		DateADTGetDatum(sum->day), Int64GetDatum(sum->count), NumericGetDatum(sum->sum), NumericGetDatum(sum->min), NumericGetDatum(sum->max)
	};
	bool		nulls[5] = {false, false, !call->has_values, !call->has_values, !call->has_values};

	return heap_form_tuple(call->desc, values, nulls);
}

/* The days of a profile, one at a call: a table of them for each profile would take longer than its samples. */
PS_FUNCTION(ps_profile_days);
static Datum
ps_profile_days_checked(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	DaysCall   *call = fcinfo->flinfo->fn_extra;

	if (result == NULL || !IsA(result, ReturnSetInfo))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));
	if (call == NULL)
		fcinfo->flinfo->fn_extra = call = make_call(fcinfo);
	if (call->next < 0)
	{
		MemoryContext caller;

		if (!call->is_watched)
			RegisterExprContextCallback(result->econtext, forget_row, PointerGetDatum(call));
		call->is_watched = true;
		take_arguments(call, fcinfo, 2);
		MemoryContextReset(call->row_context);
		ps_day_sums_clear(&call->sums);
		caller = MemoryContextSwitchTo(call->row_context);
		add_profile(call, PG_GETARG_TEXT_PP(0), PG_GETARG_BYTEA_PP(1));
		MemoryContextSwitchTo(caller);
		call->next = 0;
	}
	if (call->next < call->sums.nsums)
	{
		result->isDone = ExprMultipleResult;
		return HeapTupleGetDatum(make_row(call, &call->sums.sums[call->next++]));
	}
	call->next = -1;
	result->isDone = ExprEndResult;
	PG_RETURN_NULL();
}

/* The days of one customer: raises for a metric or a time zone that does not exist, also for an unknown customer. */
PS_FUNCTION(ps_metric_trend);
static Datum
ps_metric_trend_checked(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	text	   *customer_id = PG_GETARG_TEXT_PP(0);
	DaysCall	call = {.context = CurrentMemoryContext};
	bytea	   *state;

	InitMaterializedSRF(fcinfo, 0);
	call.desc = result->setDesc;
	take_arguments(&call, fcinfo, 1);
	state = ps_profile_window_read(customer_id);
	if (state != NULL)
		add_profile(&call, customer_id, state);
	for (int i = 0; i < call.sums.nsums; i++)
		tuplestore_puttuple(result->setResult, make_row(&call, &call.sums.sums[i]));
	return (Datum) 0;
}
