/*
 * live_value.c
 *	  Evaluates compiled predicates on a profile in memory, and finds out when the result
 *	  can change without an event. Only what was evaluated matters: as long as no part of
 *	  it changes, the same parts are evaluated again, with the same result.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "core/attribute.h"
#include "core/numeric_call.h"
#include "core/totals.h"
#include "executor/execExpr.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "store/chunk_value.h"
#include "store/live_program.h"
#include "store/profile_row.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#define HORIZON (100 * INT64CONST(365) * USECS_PER_DAY) /* changes that are further away are not searched */
#define DAY_US(day) ((int64) (day) * USECS_PER_DAY)

static PsStoredProfile *stored = NULL;
static TimestampTz as_of;
static TimestampTz now_at;		/* what now() is: as_of, or another moment during a search */
static TimestampTz due_at;
static uint64 row = 0;

void
ps_live_value_begin(PsStoredProfile *profile, TimestampTz moment)
{
	stored = profile;
	as_of = now_at = moment;
	due_at = DT_NOEND;
	row++;
}

TimestampTz
ps_live_value_due_at(void)
{
	return due_at;
}

static void
note_due(TimestampTz at)
{
	due_at = Min(due_at, Max(at, as_of + 1));
}

/* The moment of a sum; DT_NOEND when it is none. */
static TimestampTz
live_value_plus(TimestampTz at, int64 more)
{
	int64		sum;

	if (TIMESTAMP_NOT_FINITE(at) || pg_add_s64_overflow(at, more, &sum) || !IS_VALID_TIMESTAMP(sum))
		return DT_NOEND;
	return sum;
}

/* Adds what sealed chunks have of the window. */
static void
read_sealed(const PsSeries *series, PsWindowValue *value)
{
	MemoryContext caller = CurrentMemoryContext;

	SPI_connect();
	MemoryContextSwitchTo(caller);
	ps_chunks_value(false, stored->customer_id, ps_series_name(series->id), series->sealed_chunks, value);
	/* the value may point into a row of SPI */
	if (value->value != NULL)
		value->value = DatumGetNumericCopy(NumericGetDatum(value->value));
	SPI_finish();
	/* a chunk that lies behind the window as a whole was not read */
	if (series->sealed_to > value->to_at)
		value->upcoming = Min(value->upcoming, value->to_at + 1);
}

/* Adds the totals of a lifetime, of which newer samples cannot be taken out. */
static void
read_totals(const PsSeries *series, PsWindowValue *value)
{
	PsTotals	totals;

	ps_window_value_add_totals(value, series);
	ps_totals_read(series, &totals);
	if (totals.count > 0 && totals.to_at > value->to_at)
		value->upcoming = Min(value->upcoming, value->to_at + 1);
}

/* When the oldest sample leaves the window; all samples of a period leave with its end. */
static TimestampTz
leaves_at(const PsMetric *metric, const PsWindowValue *value)
{
	TimestampTz behind;

	if (TIMESTAMP_IS_NOEND(value->oldest) || metric->period == PS_PERIOD_LIFETIME)
		return DT_NOEND;
	if (metric->period == PS_PERIOD_NONE)
		return live_value_plus(value->oldest, metric->window_us + 1);
	/* in the next period, whatever its zone does to its length */
	behind = value->from_at + (metric->period == PS_PERIOD_DAY ? 30 : metric->period == PS_PERIOD_WEEK ? 7 * 24 + 12 : 31 * 24 + 12) * USECS_PER_HOUR;
	return ps_metric_from(metric, behind);
}

/* Computes a metric of the profile, once. */
static void
read_metric(PsLiveMetric *metric)
{
	const PsSeries *series;
	PsWindowValue value;

	if (metric->row == row)
		return;
	series = ps_window_find(&stored->profile.window, metric->metric.series);
	ps_window_value_init(&value, &metric->metric, as_of, work_mem);
	metric->is_open = series == NULL || series->is_lifetime || series->sealed_to < value.from_at;
	if (!metric->is_open)
		read_sealed(series, &value);
	else if (series != NULL && series->is_lifetime)
		read_totals(series, &value);
	if (series != NULL)
		ps_window_value_add_samples(&value, series->bytes, series->len);
	metric->leaves_at = leaves_at(&metric->metric, &value);
	metric->enters_at = value.upcoming;
	metric->falls = TIMESTAMP_IS_NOEND(value.upcoming) &&
		(value.aggregate == PS_AGGREGATE_COUNT || (value.aggregate == PS_AGGREGATE_SUM && !value.may_rise));
	if (value.aggregate == PS_AGGREGATE_COUNT)
		metric->count = ps_window_value_count(&value);
	else
		metric->value = ps_window_value_result(&value);
	metric->row = row;
}

static void
get_metric(const PsLiveParam *param, Datum *value, bool *is_null)
{
	PsLiveMetric *metric = param->metric;

	read_metric(metric);
	if (!param->in_atom)
		note_due(Min(metric->leaves_at, metric->enters_at));
	if (metric->metric.aggregate == PS_AGGREGATE_COUNT)
	{
		*value = param->type == INT8OID ? Int64GetDatum(metric->count) : NumericGetDatum(int64_to_numeric(metric->count));
		*is_null = false;
		return;
	}
	*is_null = metric->value == NULL;
	*value = NumericGetDatum(metric->value);
}

/* A column that events change, as the view profiles shows it: a text is null when it is empty. */
static void
live_value_get_column(int index, Datum *value, bool *is_null)
{
	const PsProfileColumn *column = &ps_profile_columns[index];
	PsProfile  *profile = &stored->profile;
	char	   *field = (char *) profile + column->offset;

	*is_null = false;
	switch (column->kind)
	{
		case PS_PROFILE_TEXT:
			*value = PointerGetDatum(*(text **) field);
			*is_null = VARSIZE_ANY_EXHDR(*(text **) field) == 0;
			break;
		case PS_PROFILE_NUMERIC:
			*value = NumericGetDatum(*(Numeric *) field);
			break;
		case PS_PROFILE_INT8:
			*value = Int64GetDatum(*(int64 *) field);
			break;
		case PS_PROFILE_TIME:
		case PS_PROFILE_NULLABLE_TIME:
			*value = TimestampTzGetDatum(*(TimestampTz *) field);
			*is_null = column->kind == PS_PROFILE_NULLABLE_TIME && TIMESTAMP_IS_NOBEGIN(*(TimestampTz *) field);
			break;
		case PS_PROFILE_EVENT_COUNTS:
			*value = ps_profile_row_event_counts(profile);
			break;
		case PS_PROFILE_ATTRIBUTES:
			*value = PointerGetDatum(ps_attributes_jsonb(profile));
			break;
		default:
			elog(ERROR, "column %s is no value of a predicate", column->name);
	}
}

/* Whether a column of scores has the default of the table. */
static bool
is_unscored(int column, Datum value)
{
	switch (column)
	{
		case PS_ROW_segment:
			return strcmp(TextDatumGetCString(value), "unknown") == 0;
		case PS_ROW_churn_risk_score:
			return DatumGetFloat8(value) == 0;
		case PS_ROW_lifetime_value:
			return DatumGetBool(DirectFunctionCall2(numeric_eq, value, NumericGetDatum(int64_to_numeric(0))));
		default:
			return true;
	}
}

/*
 * A column that a refresh of scores computes, as the view profiles shows it: null until
 * it is computed, unless a seed brought it.
 */
static void
get_batch_column(int column, Datum *value, bool *is_null)
{
	*is_null = stored->profile.is_new || (stored->nulls[PS_ROW_scored_at] && is_unscored(column, stored->values[column]));
	*value = *is_null ? (Datum) 0 : stored->values[column];
}

/* The other side of a comparison with a metric, as a numeric; NULL: it is of another type. */
static Numeric
other_numeric(const PsLiveAtom *atom)
{
	switch (atom->other_type)
	{
		case INT2OID:
			return int64_to_numeric(DatumGetInt16(atom->value));
		case INT4OID:
			return int64_to_numeric(DatumGetInt32(atom->value));
		case INT8OID:
			return int64_to_numeric(DatumGetInt64(atom->value));
		case NUMERICOID:
			return numeric_is_nan(DatumGetNumeric(atom->value)) || numeric_is_inf(DatumGetNumeric(atom->value)) ? NULL : DatumGetNumeric(atom->value);
		default:
			return NULL;
	}
}

static int
compare_times(const void *a, const void *b)
{
	TimestampTz x = *(const TimestampTz *) a;
	TimestampTz y = *(const TimestampTz *) b;

	return x < y ? -1 : x > y;
}

/* When so many of the samples of the row have left the window. */
static TimestampTz
leaves_after(const PsLiveMetric *metric, int64 leave)
{
	const PsSeries *series = ps_window_find(&stored->profile.window, metric->metric.series);
	TimestampTz from_at = as_of - metric->metric.window_us;
	PsSampleWalk walk;

	/* a sample has two bytes at least; how many there are the state tells, too, but a damaged one tells wrong */
	TimestampTz *times = palloc(Max(series->len / 2, 1) * sizeof(TimestampTz));
	bool		is_sorted = true;
	int			n = 0;

	ps_samples_walk(&walk, series->bytes, series->len);
	while (ps_samples_next(&walk))
	{
		if (walk.at < from_at)
			continue;
		times[n++] = -walk.at;	/* the newest sample comes first */
		is_sorted &= n == 1 || times[n - 2] <= times[n - 1];
	}
	if (!is_sorted)
		qsort(times, n, sizeof(TimestampTz), compare_times);
	return live_value_plus(-times[n - leave], metric->metric.window_us + 1);
}

/* The greatest integer up to the other side of a comparison with a count; false: it is none that a count can be. */
static bool
other_whole(const PsLiveAtom *atom, int64 *whole)
{
	Numeric		limit;

	switch (atom->other_type)
	{
		case INT2OID:
			*whole = DatumGetInt16(atom->value);
			return true;
		case INT4OID:
			*whole = DatumGetInt32(atom->value);
			return true;
		case INT8OID:
			*whole = DatumGetInt64(atom->value);
			return true;
		default:
			limit = other_numeric(atom);
			if (limit == NULL ||
				DatumGetBool(DirectFunctionCall2(numeric_gt, DirectFunctionCall1(numeric_abs, NumericGetDatum(limit)), NumericGetDatum(int64_to_numeric(PG_INT32_MAX)))))
				return false;
			*whole = DatumGetInt64(DirectFunctionCall1(numeric_int8, DirectFunctionCall1(numeric_floor, NumericGetDatum(limit))));
			return true;
	}
}

/* The same for a count: it changes when so many samples have left that it reaches the limit, or falls below it. */
static TimestampTz
due_by_count(const PsLiveAtom *atom)
{
	PsLiveMetric *metric = atom->metric;
	int64		whole;

	if (!metric->falls || !other_whole(atom, &whole))
		return Min(metric->leaves_at, metric->enters_at);
	/* what is less stays less; and no count is negative */
	if (metric->count < whole || whole < 0 || metric->count == 0)
		return DT_NOEND;
	if (!metric->is_open || metric->metric.period != PS_PERIOD_NONE)
		return metric->leaves_at;
	return leaves_after(metric, Max(metric->count - whole, 1));
}

/* When a comparison of a metric with a number can have another result. */
static TimestampTz
due_by_samples(const PsLiveAtom *atom)
{
	PsLiveMetric *metric = atom->metric;
	Numeric		limit;

	read_metric(metric);
	if (metric->metric.aggregate == PS_AGGREGATE_COUNT)
		return due_by_count(atom);
	limit = other_numeric(atom);
	if (!metric->falls || limit == NULL)
		return Min(metric->leaves_at, metric->enters_at);
	if (ps_numeric_compare(metric->value, limit) < 0)
		return DT_NOEND;
	return metric->leaves_at;
}

/* The first moment of T and T + step that is behind now; DT_NOEND: both have passed. */
static TimestampTz
next_of(TimestampTz at, int64 step)
{
	TimestampTz next;

	if (at > as_of || TIMESTAMP_NOT_FINITE(at))
		return TIMESTAMP_IS_NOBEGIN(at) ? DT_NOEND : at;
	next = live_value_plus(at, step);
	return next > as_of ? next : DT_NOEND;
}

/* When now() reaches the moment of which the atom tells, or leaves it behind. */
static TimestampTz
due_at_moment(PsLiveAtom *atom, ExprContext * context)
{
	Datum		start;
	bool		is_null;
	Interval   *span;
	int64		span_us;

	if (atom->start == NULL)
		return next_of(live_value_plus(DatumGetTimestampTz(atom->value), -atom->offset), 1);
	start = ExecEvalExpr(atom->start_state, context, &is_null);
	if (is_null)
		return DT_NOEND;
	/* as intervals are compared: a month has 30 days */
	span = DatumGetIntervalP(atom->value);
	if (pg_mul_s64_overflow(span->month * INT64CONST(30) + span->day, USECS_PER_DAY, &span_us) ||
		pg_add_s64_overflow(span_us, span->time, &span_us))
		return DT_NOEND;
	return next_of(live_value_plus(DatumGetTimestampTz(start), span_us), 1);
}

/* Likewise for days of UTC. */
static TimestampTz
due_at_day(PsLiveAtom *atom, ExprContext * context)
{
	bool		is_null = false;
	Datum		day = atom->start == NULL ? atom->value : ExecEvalExpr(atom->start_state, context, &is_null);
	int64		more = atom->start == NULL ? -atom->offset : DatumGetInt32(atom->value);

	if (is_null || DATE_NOT_FINITE(DatumGetDateADT(day)))
		return DT_NOEND;
	return next_of(live_value_plus(0, DAY_US(DatumGetDateADT(day) + more)), USECS_PER_DAY);
}

/* The result of a comparison at another moment; false for null. */
static bool
holds_at(PsLiveAtom *atom, ExprContext * context, TimestampTz at)
{
	bool		is_null;
	Datum		result;

	now_at = at;
	result = ExecEvalExpr(atom->comparison_state, context, &is_null);
	now_at = as_of;
	return !is_null && DatumGetBool(result);
}

/* Halves the time until the horizon: a comparison of monotone sides changes once at most. */
static TimestampTz
due_by_search(PsLiveAtom *atom, ExprContext * context)
{
	TimestampTz same = as_of;
	TimestampTz other = as_of + HORIZON;
	bool		now = holds_at(atom, context, same);

	if (holds_at(atom, context, other) == now)
		return DT_NOEND;
	while (other - same > 1)
	{
		TimestampTz middle = same + (other - same) / 2;

		if (holds_at(atom, context, middle) == now)
			same = middle;
		else
			other = middle;
	}
	return other;
}

static void
get_atom(PsLiveAtom *atom, ExprContext * context, Datum *value, bool *is_null)
{
	atom->value = ExecEvalExpr(atom->other_state, context, &atom->is_null);
	*value = ExecEvalExpr(atom->comparison_state, context, is_null);
	if (atom->is_null)
		return;
	switch (atom->kind)
	{
		case PS_LIVE_AT_MOMENT:
			note_due(due_at_moment(atom, context));
			break;
		case PS_LIVE_AT_DAY:
			note_due(due_at_day(atom, context));
			break;
		case PS_LIVE_BY_SEARCH:
			note_due(due_by_search(atom, context));
			break;
		case PS_LIVE_BY_SAMPLES:
			note_due(due_by_samples(atom));
			break;
	}
}

/* Called by the expression for the value of a parameter. */
static void
live_value_get(ExprState *state, ExprEvalStep * op, ExprContext * context)
{
	const PsLiveParam *param = op->d.cparam.paramarg;

	*op->resnull = false;
	switch (param->kind)
	{
		case PS_LIVE_NOW:
			*op->resvalue = TimestampTzGetDatum(now_at);
			break;
		case PS_LIVE_CUSTOMER_ID:
			*op->resvalue = PointerGetDatum(cstring_to_text_with_len(stored->customer_id, stored->customer_id_len));
			break;
		case PS_LIVE_COLUMN:
			live_value_get_column(param->column, op->resvalue, op->resnull);
			break;
		case PS_LIVE_BATCH_COLUMN:
			get_batch_column(param->column, op->resvalue, op->resnull);
			break;
		case PS_LIVE_METRIC:
			get_metric(param, op->resvalue, op->resnull);
			break;
		case PS_LIVE_OTHER:
			*op->resvalue = param->atom->value;
			*op->resnull = param->atom->is_null;
			break;
		case PS_LIVE_ATOM:
			get_atom(param->atom, context, op->resvalue, op->resnull);
			break;
	}
}

void
ps_live_param_compile(ParamListInfo list, Param *param, ExprState *state, Datum *value, bool *is_null)
{
	const PsLivePredicate *predicate = list->paramCompileArg;
	ExprEvalStep step = {0};

	step.opcode = EEOP_PARAM_CALLBACK;
	step.resvalue = value;
	step.resnull = is_null;
	step.d.cparam.paramfunc = live_value_get;
	step.d.cparam.paramarg = list_nth(predicate->params, param->paramid - 1);
	step.d.cparam.paramid = param->paramid;
	step.d.cparam.paramtype = param->paramtype;
	ExprEvalPushStep(state, &step);
}

void
ps_live_predicate_begin(PsLivePredicate *predicate)
{
	ListCell   *cell;

	foreach(cell, predicate->params)
	{
		PsLiveParam *param = lfirst(cell);

		if (param->kind != PS_LIVE_ATOM)
			continue;
		param->atom->comparison_state = ExecInitExprWithParams(param->atom->comparison, predicate->list);
		param->atom->other_state = ExecInitExprWithParams(param->atom->other, predicate->list);
		param->atom->start_state = ExecInitExprWithParams(param->atom->start, predicate->list);
	}
	predicate->state = ExecInitExprWithParams(predicate->expr, predicate->list);
}

bool
ps_live_predicate_holds(PsLivePredicate *predicate, ExprContext * context)
{
	bool		is_null;
	Datum		result = ExecEvalExprSwitchContext(predicate->state, context, &is_null);

	return !is_null && DatumGetBool(result);
}
