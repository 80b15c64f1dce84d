/*
 * window_value.c
 *	  Computes values of metrics.
 */
#include "postgres.h"

#include <math.h>

#include "common/int.h"
#include "core/numeric_call.h"
#include "core/totals.h"
#include "core/window_value.h"
#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#define FEW_HASHES 1024			/* up to so many hashes are counted exactly, more are estimated */
#define REGISTER_WIDTH 14		/* 2^14 registers of one byte: the standard error is 1.04 / sqrt(2^14) = 0.8 % */

void
ps_window_value_init(PsWindowValue *value, const PsMetric *metric, TimestampTz as_of, int memory_kb)
{
	memset(value, 0, sizeof(PsWindowValue));
	value->aggregate = metric->aggregate;
	value->from_at = ps_metric_from(metric, as_of);
	value->to_at = as_of;
	value->oldest = value->upcoming = DT_NOEND;
	value->value_at = value->aggregate == PS_AGGREGATE_FIRST ? DT_NOEND : DT_NOBEGIN;
	value->fraction = metric->fraction;
	value->percentile.memory_kb = memory_kb;
	if (value->aggregate == PS_AGGREGATE_DISTINCT)
		value->hashes = palloc(FEW_HASHES * sizeof(uint32));
}

/* Adds more samples by their count, and by their sum, minimum or maximum, whichever the aggregate needs. */
static void
window_value_combine(PsWindowValue *value, int64 count, Numeric sum, Numeric min, Numeric max)
{
	PGFunction	function = numeric_add;
	Numeric		more = sum;

	value->count += count;
	if (value->aggregate == PS_AGGREGATE_COUNT)
		return;
	if (value->aggregate == PS_AGGREGATE_MIN)
	{
		function = numeric_smaller;
		more = min;
	}
	else if (value->aggregate == PS_AGGREGATE_MAX)
	{
		function = numeric_larger;
		more = max;
	}
	value->value = ps_numeric_call(function, value->value == NULL ? more : value->value,
								   value->value == NULL && function == numeric_add ? int64_to_numeric(0) : more);
}

void
ps_window_value_add(PsWindowValue *value, const PsChunk *chunk)
{
	Assert(ps_aggregate_takes_sums(value->aggregate));
	value->oldest = Min(value->oldest, chunk->from_at);
	if (value->aggregate == PS_AGGREGATE_SUM)
		value->may_rise |= ps_numeric_compare(chunk->min, int64_to_numeric(0)) < 0;
	window_value_combine(value, chunk->count, chunk->sum, chunk->min, chunk->max);
}

/* The first sample is known at any moment; of the rest nothing is before the last one. */
void
ps_window_value_add_totals(PsWindowValue *value, const PsSeries *series)
{
	PsTotals	totals;

	/* create_metric() makes no such metric, but a restored row of metrics, or damaged bytes, may say so */
	if (!ps_aggregate_has_lifetime(value->aggregate))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a metric needs samples of a series that has only totals of a lifetime"),
				 errhint("Remove the metric with drop_metric(), and create it again.")));
	ps_totals_read(series, &totals);
	if (totals.count == 0 || totals.from_at > value->to_at)
		return;
	if (value->aggregate == PS_AGGREGATE_FIRST)
	{
		value->value = totals.first;
		value->value_at = totals.from_at;
	}
	else if (totals.to_at > value->to_at)
		value->is_unknown = true;
	else if (value->aggregate == PS_AGGREGATE_LAST)
	{
		value->value = totals.last;
		value->value_at = totals.to_at;
	}
	else
		window_value_combine(value, totals.count, totals.sum, totals.min, totals.max);
}

static void
add_hash(PsWindowValue *value, uint32 hash)
{
	if (value->count == FEW_HASHES)
	{
		initHyperLogLog(&value->distinct, REGISTER_WIDTH);
		for (int i = 0; i < FEW_HASHES; i++)
			addHyperLogLog(&value->distinct, value->hashes[i]);
		value->hashes = NULL;
	}
	if (value->hashes != NULL)
		value->hashes[value->count] = hash;
	else
		addHyperLogLog(&value->distinct, hash);
	value->count++;
}

static int
compare_hashes(const void *a, const void *b)
{
	uint32		x = *(const uint32 *) a;
	uint32		y = *(const uint32 *) b;

	return x < y ? -1 : x > y;
}

static int64
count_distinct(PsWindowValue *value)
{
	int64		n = 0;

	if (value->hashes == NULL)
		return (int64) rint(estimateHyperLogLog(&value->distinct));
	qsort(value->hashes, value->count, sizeof(uint32), compare_hashes);
	for (int64 i = 0; i < value->count; i++)
		if (i == 0 || value->hashes[i] != value->hashes[i - 1])
			n++;
	return n;
}

/* Multiplies an amount by 10^decimals; false: it does not fit any more. */
static bool
scale_up(int64 *amount, int decimals)
{
	for (; decimals > 0; decimals--)
		if (pg_mul_s64_overflow(*amount, 10, amount))
			return false;
	return true;
}

/* Adds the amount to the sum, and begins a new one. */
static void
take_amount(PsWindowValue *value)
{
	Numeric		sum = int64_div_fast_to_numeric(value->amount, value->scale);

	value->value = value->value == NULL ? sum : ps_numeric_call(numeric_add, value->value, sum);
	value->has_amount = false;
}

/* Adds a value to the sum as an integer, which is several times as fast as numerics. The scale of a sum is the largest of its parts. */
static void
add_amount(PsWindowValue *value, int64 amount, int scale)
{
	if (value->has_amount)
	{
		int64		sum = value->amount;
		int64		more = amount;

		if (scale_up(&sum, scale - value->scale) && scale_up(&more, value->scale - scale) &&
			!pg_add_s64_overflow(sum, more, &sum))
		{
			value->amount = sum;
			value->scale = Max(value->scale, scale);
			return;
		}
		take_amount(value);
	}
	value->has_amount = true;
	value->amount = amount;
	value->scale = scale;
}

/* What a sample of distinct values is: a hash. */
static uint32
get_hash(const PsSampleWalk *sample)
{
	if (sample->value == NULL && sample->scale == 0)
		return (uint32) sample->amount;
	return (uint32) DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(ps_sample_value(sample))));
}

/* Adds a number to a sum, which is freed: there may be millions. */
static void
add_to_sum(Numeric *sum, Numeric more)
{
	Numeric		old = *sum;

	*sum = old == NULL ? ps_numeric_call(numeric_add, int64_to_numeric(0), more) : ps_numeric_call(numeric_add, old, more);
	if (old != NULL)
		pfree(old);
}

/* Adds a sample to a standard deviation: its value and the square of it. */
static void
add_square(PsWindowValue *value, Numeric number)
{
	Numeric		square = ps_numeric_call(numeric_mul, number, number);

	value->count++;
	add_to_sum(&value->value, number);
	add_to_sum(&value->squares, square);
	pfree(square);
	pfree(number);
}

static void
add_sample(PsWindowValue *value, const PsSampleWalk *sample)
{
	bool		is_sum = value->aggregate == PS_AGGREGATE_SUM || value->aggregate == PS_AGGREGATE_AVG;
	Numeric		number;

	if (value->aggregate == PS_AGGREGATE_COUNT)
		value->count++;
	else if (value->aggregate == PS_AGGREGATE_DISTINCT)
		add_hash(value, get_hash(sample));
	else if (is_sum && sample->value == NULL)
	{
		value->count++;
		value->may_rise |= sample->amount < 0;
		add_amount(value, sample->amount, sample->scale);
	}
	else if (value->aggregate == PS_AGGREGATE_STDDEV)
		add_square(value, ps_sample_value(sample));
	else if (value->aggregate == PS_AGGREGATE_PERCENTILE || value->aggregate == PS_AGGREGATE_MEDIAN)
		ps_percentile_add(&value->percentile, ps_sample_value(sample));
	else
	{
		value->may_rise = true;
		number = ps_sample_value(sample);
		window_value_combine(value, 1, number, number, number);
	}
}

/* Whether a sample of that time counts. */
static inline bool
note_time(PsWindowValue *value, TimestampTz at)
{
	if (at < value->from_at)
		return false;
	if (at > value->to_at)
	{
		value->upcoming = Min(value->upcoming, at);
		return false;
	}
	value->oldest = Min(value->oldest, at);
	return true;
}

/*
 * Takes the first or last sample of a walk, which begins with the sample that was added last.
 * If several have the same time, the first is the one that was added first, and the last the one that was added last.
 */
static void
take_outermost(PsWindowValue *value, PsSampleWalk *walk)
{
	bool		is_first = value->aggregate == PS_AGGREGATE_FIRST;
	PsSampleWalk found = {.at = value->value_at};
	bool		is_found = false;

	while (ps_samples_next(walk))
	{
		if (!note_time(value, walk->at))
			continue;
		if (is_first ? walk->at < found.at || (is_found && walk->at == found.at) :
			walk->at > found.at || (!is_found && walk->at == found.at))
		{
			found = *walk;
			is_found = true;
		}
	}
	if (!is_found)
		return;
	value->value = ps_sample_value(&found);
	value->value_at = found.at;
}

void
ps_window_value_add_samples(PsWindowValue *value, const char *bytes, int len)
{
	PsSampleWalk walk;

	ps_samples_walk(&walk, bytes, len);
	if (ps_aggregate_takes_outermost(value->aggregate))
	{
		take_outermost(value, &walk);
		return;
	}
	while (ps_samples_next(&walk))
		if (note_time(value, walk.at))
			add_sample(value, &walk);
}

int64
ps_window_value_count(PsWindowValue *value)
{
	return value->aggregate == PS_AGGREGATE_DISTINCT ? count_distinct(value) : value->count;
}

/* The square root of (count * sum of squares - square of the sum) / (count * (count - 1)). */
static Numeric
get_deviation(const PsWindowValue *value)
{
	Numeric		count = int64_to_numeric(value->count);
	Numeric		variance;

	if (value->count < 2)
		return NULL;
	variance = ps_numeric_call(numeric_sub, ps_numeric_call(numeric_mul, count, value->squares),
							   ps_numeric_call(numeric_mul, value->value, value->value));
	variance = ps_numeric_call(numeric_div, variance,
							   ps_numeric_call(numeric_mul, count, int64_to_numeric(value->count - 1)));
	return DatumGetNumeric(DirectFunctionCall1(numeric_sqrt, NumericGetDatum(variance)));
}

Numeric
ps_window_value_result(PsWindowValue *value)
{
	if (value->is_unknown)
		return NULL;
	if (value->has_amount)
		take_amount(value);
	switch (value->aggregate)
	{
		case PS_AGGREGATE_COUNT:
		case PS_AGGREGATE_DISTINCT:
			return int64_to_numeric(ps_window_value_count(value));
		case PS_AGGREGATE_SUM:
			return value->value == NULL ? int64_to_numeric(0) : value->value;
		case PS_AGGREGATE_AVG:
			return value->count == 0 ? NULL : ps_numeric_call(numeric_div, value->value, int64_to_numeric(value->count));
		case PS_AGGREGATE_PERCENTILE:
			return ps_percentile_result(&value->percentile, value->fraction);
		case PS_AGGREGATE_MEDIAN:
			return ps_percentile_result(&value->percentile, int64_div_fast_to_numeric(5, 1));
		case PS_AGGREGATE_STDDEV:
			return get_deviation(value);
		case PS_AGGREGATE_MIN:
		case PS_AGGREGATE_MAX:
		case PS_AGGREGATE_FIRST:
		case PS_AGGREGATE_LAST:
			break;
	}
	return value->value;
}
