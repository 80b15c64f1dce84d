/*
 * day_sums.c
 *	  Adds up samples by day of a time zone, as (at AT TIME ZONE zone)::date has it.
 */
#include "postgres.h"

#include "compat.h"
#include "core/day_sums.h"
#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#define FEW_DAYS 16
#define MAX_OFFSET_DAYS 8		/* a zone in POSIX' form may be up to 167 hours from UTC */
#define EPOCH_SECONDS ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

void
ps_day_sums_init(PsDaySums *sums, DateADT from_day, DateADT to_day, pg_tz * zone)
{
	memset(sums, 0, sizeof(PsDaySums));
	sums->from_day = from_day;
	sums->to_day = to_day;
	sums->zone = zone;
}

void
ps_day_sums_clear(PsDaySums *sums)
{
	sums->sums = NULL;
	sums->nsums = sums->capacity = 0;
}

TimestampTz
ps_day_sums_from(const PsDaySums *sums)
{
	int64		day = (int64) sums->from_day - MAX_OFFSET_DAYS;

	if (day <= MIN_TIMESTAMP / USECS_PER_DAY)
		return DT_NOBEGIN;
	if (day >= END_TIMESTAMP / USECS_PER_DAY)
		return DT_NOEND;
	return day * USECS_PER_DAY;
}

/* The greatest whole number of units that is not greater. */
static int64
floor_divide(int64 value, int64 unit)
{
	return value / unit - (value % unit < 0);
}

/* Finds the offset of the zone at a moment, and until when it stays. */
static void
find_stretch(PsDaySums *sums, TimestampTz at)
{
	pg_time_t	seconds = floor_divide(at, USECS_PER_SEC) + EPOCH_SECONDS;
	pg_time_t	boundary;
	long		offset;
	long		next_offset;
	int			is_dst;
	int			next_is_dst;
	int			found = pg_next_dst_boundary(&seconds, &offset, &is_dst, &boundary, &next_offset, &next_is_dst, sums->zone);

	if (found < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	/* it is known from this moment on; an earlier moment looks again, and makes it longer */
	sums->stretch_from = at;
	sums->stretch_to = found == 1 ? (boundary - EPOCH_SECONDS) * USECS_PER_SEC : DT_NOEND;
	sums->offset_us = offset * USECS_PER_SEC;
}

static DateADT
day_of(PsDaySums *sums, TimestampTz at)
{
	if (at < sums->stretch_from || at >= sums->stretch_to)
		find_stretch(sums, at);
	return (DateADT) floor_divide(at + sums->offset_us, USECS_PER_DAY);
}

/* The sums of a day, which are begun when there are none yet. */
static PsDaySum *
find_day(PsDaySums *sums, DateADT day)
{
	int			low = 0;
	int			high = sums->nsums;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (sums->sums[middle].day < day)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < sums->nsums && sums->sums[low].day == day)
		return &sums->sums[low];
	if (sums->nsums == sums->capacity)
	{
		sums->capacity = Max(FEW_DAYS, 2 * sums->capacity);
		if (sums->sums == NULL)
			sums->sums = palloc(sums->capacity * sizeof(PsDaySum));
		else
			sums->sums = repalloc(sums->sums, sums->capacity * sizeof(PsDaySum));
	}
	memmove(&sums->sums[low + 1], &sums->sums[low], (sums->nsums++ - low) * sizeof(PsDaySum));
	memset(&sums->sums[low], 0, sizeof(PsDaySum));
	sums->sums[low].day = day;
	return &sums->sums[low];
}

static Numeric
day_sum_call(PGFunction function, Numeric a, Numeric b)
{
	return DatumGetNumeric(DirectFunctionCall2(function, NumericGetDatum(a), NumericGetDatum(b)));
}

static void
add_to_day(PsDaySums *sums, const PsDaySum *more)
{
	PsDaySum   *sum;

	if (more->day < sums->from_day || more->day > sums->to_day)
		return;
	sum = find_day(sums, more->day);
	if (sum->count == 0)
	{
		*sum = *more;
		return;
	}
	sum->count += more->count;
	sum->sum = day_sum_call(numeric_add, sum->sum, more->sum);
	sum->min = day_sum_call(numeric_smaller, sum->min, more->min);
	sum->max = day_sum_call(numeric_larger, sum->max, more->max);
}

void
ps_day_sums_add_samples(PsDaySums *sums, const char *bytes, int len)
{
	int			n;
	PsSample   *samples = ps_samples_unpack(bytes, len, &n);

	for (int i = 0; i < n; i++)
	{
		PsDaySum	one = {day_of(sums, samples[i].at), 1, samples[i].value, samples[i].value, samples[i].value};

		add_to_day(sums, &one);
	}
}

void
ps_day_sums_add_chunk(PsDaySums *sums, const PsChunk *chunk)
{
	PsDaySum	all = {day_of(sums, chunk->from_at), chunk->count, chunk->sum, chunk->min, chunk->max};

	/* one offset from its first to its last sample, so that all between are of the same day when these two are */
	if (chunk->to_at < sums->stretch_to && day_of(sums, chunk->to_at) == all.day)
		add_to_day(sums, &all);
	else
		ps_day_sums_add_samples(sums, VARDATA_ANY(chunk->samples), VARSIZE_ANY_EXHDR(chunk->samples));
}

bool
ps_day_sums_add_bucket(PsDaySums *sums, const PsDaySum *bucket)
{
	TimestampTz begin = (TimestampTz) bucket->day * USECS_PER_DAY;
	DateADT		first = day_of(sums, begin);
	bool		is_whole = begin + USECS_PER_DAY <= sums->stretch_to && sums->offset_us == 0;

	if (is_whole)
		add_to_day(sums, bucket);
	/* it reaches into days beside its first one by less than a day and a change of the offset */
	return is_whole || first > sums->to_day || day_of(sums, begin + USECS_PER_DAY - 1) < sums->from_day;
}
