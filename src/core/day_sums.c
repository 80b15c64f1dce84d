/*
 * day_sums.c
 *	  Adds up samples by day of a time zone, as (at AT TIME ZONE zone)::date has it.
 */
#include "postgres.h"

#include "compat.h"
#include "core/day_sums.h"
#include "core/numeric_call.h"
#include "utils/timestamp.h"

#define FEW_DAYS 16

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
	int64		day = (int64) sums->from_day - PS_MAX_OFFSET_DAYS;

	if (day <= MIN_TIMESTAMP / USECS_PER_DAY)
		return DT_NOBEGIN;
	if (day >= END_TIMESTAMP / USECS_PER_DAY)
		return DT_NOEND;
	return day * USECS_PER_DAY;
}

static DateADT
day_of(PsDaySums *sums, TimestampTz at)
{
	/* a moment before the known begin looks again, and makes the stretch longer */
	if (at < sums->stretch.from || at >= sums->stretch.to)
		ps_zone_stretch(sums->zone, at, &sums->stretch);
	return ps_zone_day(at, sums->stretch.offset_us);
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
	sum->sum = ps_numeric_call(numeric_add, sum->sum, more->sum);
	sum->min = ps_numeric_call(numeric_smaller, sum->min, more->min);
	sum->max = ps_numeric_call(numeric_larger, sum->max, more->max);
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
	if (chunk->to_at < sums->stretch.to && day_of(sums, chunk->to_at) == all.day)
		add_to_day(sums, &all);
	else
		ps_day_sums_add_samples(sums, VARDATA_ANY(chunk->samples), VARSIZE_ANY_EXHDR(chunk->samples));
}

bool
ps_day_sums_add_bucket(PsDaySums *sums, const PsDaySum *bucket)
{
	TimestampTz begin = (TimestampTz) bucket->day * USECS_PER_DAY;
	DateADT		first = day_of(sums, begin);
	bool		is_whole = begin + USECS_PER_DAY <= sums->stretch.to && sums->stretch.offset_us == 0;

	if (is_whole)
		add_to_day(sums, bucket);
	/* it reaches into days beside its first one by less than a day and a change of the offset */
	return is_whole || first > sums->to_day || day_of(sums, begin + USECS_PER_DAY - 1) < sums->from_day;
}
