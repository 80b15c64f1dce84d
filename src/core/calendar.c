/*
 * calendar.c
 *	  Time zones and their periods. A clock that is set back over midnight, as in
 *	  Havana, begins a day once, at the first of its two midnights.
 */
#include "postgres.h"

#include "compat.h"
#include "core/calendar.h"
#include "parser/scansup.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#define EPOCH_SECONDS ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

static const struct
{
	const char *name;
	int			days;
}			periods[] = {
	[PS_PERIOD_DAY] = {"day", 2},
	[PS_PERIOD_WEEK] = {"week", 8},
	[PS_PERIOD_MONTH] = {"month", 32},
	[PS_PERIOD_LIFETIME] = {"lifetime", 0}
};

bool
ps_period_find(const char *name, PsPeriod *period)
{
	for (int i = PS_PERIOD_DAY; i < lengthof(periods); i++)
		if (strcmp(name, periods[i].name) == 0)
		{
			*period = i;
			return true;
		}
	return false;
}

int
ps_period_days(PsPeriod period)
{
	return periods[period].days;
}

/* Raises that there is no such zone. */
static pg_tz *
complain_of_zone(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("time zone \"%s\" not recognized", name),
			 errhint("Names are in the view pg_timezone_names.")));
	return NULL;
}

pg_tz *
ps_zone_find(const char *name, bool missing_ok)
{
	char	   *lower = downcase_truncate_identifier(name, strlen(name), false);
	int			type;
	int			offset;
	pg_tz	   *zone;
	PS_ZONE_ERROR error;

	ps_decode_zone_abbreviation(lower, &type, &offset, &zone, &error);
	if (type == DYNTZ)
	{
		if (missing_ok)
			return NULL;
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("abbreviation \"%s\" of a time zone has meant more than one offset", name),
				 errhint("Take a full name of the view pg_timezone_names.")));
	}
	zone = type == TZ || type == DTZ ? pg_tzset_offset(-offset) : pg_tzset(name);
	return zone != NULL || missing_ok ? zone : complain_of_zone(name);
}

/* The greatest whole number of units that is not greater. */
static int64
floor_divide(int64 value, int64 unit)
{
	return value / unit - (value % unit < 0);
}

int
ps_zone_day(TimestampTz at, int64 offset_us)
{
	return (int) floor_divide(at + offset_us, USECS_PER_DAY);
}

void
ps_zone_stretch(pg_tz * zone, TimestampTz at, PsZoneStretch *stretch)
{
	pg_time_t	seconds = floor_divide(at, USECS_PER_SEC) + EPOCH_SECONDS;
	pg_time_t	boundary;
	long		offset;
	long		next_offset;
	int			is_dst;
	int			next_is_dst;
	int			found = pg_next_dst_boundary(&seconds, &offset, &is_dst, &boundary, &next_offset, &next_is_dst, zone);

	if (found < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	stretch->from = at;
	stretch->to = found == 1 ? (boundary - EPOCH_SECONDS) * USECS_PER_SEC : DT_NOEND;
	stretch->offset_us = offset * USECS_PER_SEC;
}

/* The first day of the period that has a day. */
static int
first_day(PsPeriod period, int day)
{
	int			year;
	int			month;
	int			day_of_month;

	if (period == PS_PERIOD_WEEK)
		return day - (j2day(day + POSTGRES_EPOCH_JDATE) + 6) % 7;	/* j2day() counts from Sunday */
	if (period != PS_PERIOD_MONTH)
		return day;
	j2date(day + POSTGRES_EPOCH_JDATE, &year, &month, &day_of_month);
	return day - day_of_month + 1;
}

TimestampTz
ps_period_begin(PsPeriod period, pg_tz * zone, TimestampTz at)
{
	PsZoneStretch stretch;
	TimestampTz midnight;
	TimestampTz begin;

	ps_zone_stretch(zone, at, &stretch);
	midnight = (TimestampTz) first_day(period, ps_zone_day(at, stretch.offset_us)) * USECS_PER_DAY;
	begin = midnight - PS_MAX_OFFSET_DAYS * USECS_PER_DAY;
	for (;;)
	{
		/* the first moment of this stretch with that date or a later one, unless the stretch ends before */
		ps_zone_stretch(zone, begin, &stretch);
		begin = Max(begin, midnight - stretch.offset_us);
		if (begin < stretch.to)
			return begin;
		begin = stretch.to;
	}
}
