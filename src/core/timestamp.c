/*
 * timestamp.c
 *	  Reads the time of an event, which is ISO 8601 or a number since 1970.
 *
 *	  timestamptz_in() is not used: it raises an ERROR for a bad value, takes
 *	  words such as "yesterday", and depends on the session's settings.
 */
#include "postgres.h"

#include "core/json.h"
#include "core/timestamp.h"
#include "core/unix_time.h"
#include "utils/datetime.h"

/* Enough for the year 9999 in microseconds, and not too many for an int64. */
#define MAX_DIGITS 18

typedef struct Cursor
{
	const char *at;
	const char *end;
} Cursor;

const char *const ps_time_units[PS_TIME_UNITS] = {"milliseconds", "seconds", "microseconds"};

/* Sets *result; false when the time is not in the years 1 to 9999 UTC. */
static bool
in_range(int64 us, TimestampTz *result)
{
	static const int64 first = INT64CONST(-730119) * USECS_PER_DAY;
	static const int64 last = INT64CONST(2921940) * USECS_PER_DAY - 1;

	*result = us;
	return us >= first && us <= last;
}

/* Reads exactly ndigits digits; false when there are fewer. */
static bool
read_digits(Cursor *cursor, int ndigits, int *value)
{
	if (cursor->end - cursor->at < ndigits)
		return false;
	*value = 0;
	for (int i = 0; i < ndigits; i++)
	{
		char		c = *cursor->at++;

		if (c < '0' || c > '9')
			return false;
		*value = *value * 10 + (c - '0');
	}
	return true;
}

/* Skips the next character if it is the expected one. */
static bool
timestamp_skip(Cursor *cursor, char expected)
{
	if (cursor->at >= cursor->end || *cursor->at != expected)
		return false;
	cursor->at++;
	return true;
}

/* Reads YYYY-MM-DD as a Julian day number. */
static bool
read_date(Cursor *cursor, int *julian_day)
{
	int			year,
				month,
				day;

	if (!read_digits(cursor, 4, &year) || !timestamp_skip(cursor, '-') ||
		!read_digits(cursor, 2, &month) || !timestamp_skip(cursor, '-') ||
		!read_digits(cursor, 2, &day))
		return false;
	if (year < 1 || month < 1 || month > 12 ||
		day < 1 || day > day_tab[isleap(year)][month - 1])
		return false;
	*julian_day = date2j(year, month, day);
	return true;
}

/* Reads the digits behind the decimal sign and adds them to *us, rounded to microseconds. */
static bool
read_fraction(Cursor *cursor, int64 *us)
{
	const char *start = cursor->at;
	int64		unit = USECS_PER_SEC;

	for (; cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9'; cursor->at++)
	{
		int			digit = *cursor->at - '0';

		if (unit == 1 && digit >= 5)
			*us += 1;
		unit /= 10;
		*us += digit * unit;
	}
	return cursor->at > start;
}

/* Reads HH:MM[:SS[.fraction]] as microseconds. A leap second 60 becomes the first second of the next minute. */
static bool
timestamp_read_time(Cursor *cursor, int64 *us)
{
	int			hour,
				minute,
				second = 0;

	if (!read_digits(cursor, 2, &hour) || !timestamp_skip(cursor, ':') || !read_digits(cursor, 2, &minute))
		return false;
	*us = 0;
	if (timestamp_skip(cursor, ':'))
	{
		if (!read_digits(cursor, 2, &second))
			return false;
		if ((timestamp_skip(cursor, '.') || timestamp_skip(cursor, ',')) && !read_fraction(cursor, us))
			return false;
	}
	*us += hour * USECS_PER_HOUR + minute * USECS_PER_MINUTE + second * USECS_PER_SEC;
	return hour <= 23 && minute <= 59 && second <= 60;
}

/* Reads Z, ±HH, ±HHMM or ±HH:MM as the microseconds to subtract; without a zone it is UTC. */
static bool
read_zone(Cursor *cursor, int64 *us)
{
	int			hours,
				minutes = 0;
	bool		west;

	*us = 0;
	if (cursor->at == cursor->end || timestamp_skip(cursor, 'Z') || timestamp_skip(cursor, 'z'))
		return true;
	west = timestamp_skip(cursor, '-');
	if ((!west && !timestamp_skip(cursor, '+')) || !read_digits(cursor, 2, &hours))
		return false;
	if (cursor->at < cursor->end)
	{
		(void) timestamp_skip(cursor, ':');
		if (!read_digits(cursor, 2, &minutes))
			return false;
	}
	*us = hours * USECS_PER_HOUR + minutes * USECS_PER_MINUTE;
	if (west)
		*us = -*us;
	return hours <= 23 && minutes <= 59;
}

bool
ps_timestamp_from_iso(const char *iso, int len, TimestampTz *result)
{
	Cursor		cursor = {iso, iso + len};
	int			julian_day;
	int64		time = 0;
	int64		zone = 0;

	if (!read_date(&cursor, &julian_day))
		return false;
	if (cursor.at < cursor.end)
	{
		if (!timestamp_skip(&cursor, 'T') && !timestamp_skip(&cursor, 't') && !timestamp_skip(&cursor, ' '))
			return false;
		if (!timestamp_read_time(&cursor, &time) || !read_zone(&cursor, &zone) || cursor.at != cursor.end)
			return false;
	}
	return in_range((julian_day - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY + time - zone, result);
}

bool
ps_timestamp_from_epoch(const char *number, PsTimeUnit unit, TimestampTz *result)
{
	static const int shifts[PS_TIME_UNITS] = {3, 6, 0};
	PsJsonNumber parts = ps_json_number(number);
	const char *digit = parts.digits;
	int64		us = 0;
	int			first = parts.exponent + shifts[unit];

	/* the first digit stands for 10^first microseconds */
	if (first >= MAX_DIGITS)
		return false;
	for (int exponent = first; exponent >= -1; exponent--)
	{
		int			value = 0;

		if (*digit == '.')
			digit++;
		if (*digit >= '0' && *digit <= '9')
			value = *digit++ - '0';
		if (exponent >= 0)
			us = us * 10 + value;
		else if (value >= 5)
			us++;
	}
	return in_range(ps_timestamp_of_unix_us(parts.negative ? -us : us), result);
}

bool
ps_timestamp_is_count(const char *text, int len)
{
	int			digits = strspn(text, "0123456789");

	if (digits == 0 || len > PS_JSON_MAX_NUMBER_LEN)
		return false;
	if (digits == len)
		return true;
	return text[digits] == '.' && digits + 1 < len && digits + 1 + (int) strspn(text +digits + 1, "0123456789") == len;
}
