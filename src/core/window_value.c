/*
 * window_value.c
 *	  Computes values of metrics.
 */
#include "postgres.h"

#include <math.h>

#include "core/window_value.h"
#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#define FEW_HASHES 1024			/* up to so many hashes are counted exactly, more are estimated */
#define REGISTER_WIDTH 14		/* 2^14 registers of one byte: the standard error is 1.04 / sqrt(2^14) = 0.8 % */

static Numeric
window_value_call(PGFunction function, Numeric a, Numeric b)
{
	return DatumGetNumeric(DirectFunctionCall2(function, NumericGetDatum(a), NumericGetDatum(b)));
}

void
ps_window_value_init(PsWindowValue *value, const PsMetric *metric, TimestampTz as_of)
{
	memset(value, 0, sizeof(PsWindowValue));
	value->aggregate = metric->aggregate;
	value->from_at = as_of - metric->window_us;
	value->to_at = as_of;
	value->value_at = DT_NOBEGIN;
	if (value->aggregate == PS_AGGREGATE_DISTINCT)
		value->hashes = palloc(FEW_HASHES * sizeof(uint32));
}

bool
ps_window_value_takes_sums(const PsWindowValue *value)
{
	return value->aggregate != PS_AGGREGATE_DISTINCT && value->aggregate != PS_AGGREGATE_LAST;
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
	value->value = window_value_call(function, value->value == NULL ? more : value->value,
									 value->value == NULL && function == numeric_add ? int64_to_numeric(0) : more);
}

void
ps_window_value_add(PsWindowValue *value, const PsChunk *chunk)
{
	Assert(ps_window_value_takes_sums(value));
	window_value_combine(value, chunk->count, chunk->sum, chunk->min, chunk->max);
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

static void
add_sample(PsWindowValue *value, const PsSample *sample)
{
	if (value->aggregate == PS_AGGREGATE_DISTINCT)
		add_hash(value, (uint32) DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(sample->value))));
	else if (value->aggregate != PS_AGGREGATE_LAST)
		window_value_combine(value, 1, sample->value, sample->value, sample->value);
	else if (sample->at >= value->value_at)
	{
		value->value = sample->value;
		value->value_at = sample->at;
	}
}

void
ps_window_value_add_samples(PsWindowValue *value, const char *bytes, int len)
{
	int			n;
	PsSample   *samples = ps_samples_unpack(bytes, len, &n);

	for (int i = 0; i < n; i++)
		if (samples[i].at >= value->from_at && samples[i].at <= value->to_at)
			add_sample(value, &samples[i]);
}

Numeric
ps_window_value_result(PsWindowValue *value)
{
	switch (value->aggregate)
	{
		case PS_AGGREGATE_COUNT:
			return int64_to_numeric(value->count);
		case PS_AGGREGATE_SUM:
			return value->value == NULL ? int64_to_numeric(0) : value->value;
		case PS_AGGREGATE_AVG:
			return value->count == 0 ? NULL : window_value_call(numeric_div, value->value, int64_to_numeric(value->count));
		case PS_AGGREGATE_DISTINCT:
			return int64_to_numeric(count_distinct(value));
		case PS_AGGREGATE_MIN:
		case PS_AGGREGATE_MAX:
		case PS_AGGREGATE_LAST:
			break;
	}
	return value->value;
}
