/*
 * iso8601.c
 *	  Writes a timestamp as documents, notifications and attributes have it.
 */
#include "postgres.h"

#include "core/iso8601.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

/* Writes a number with at least so many digits, and then a character; returns the place behind them. */
static char *
put_digits(char *out, int number, int width, char next)
{
	out = pg_ultostr_zeropad(out, (uint32) number, width);
	*out++ = next;
	return out;
}

/* Always in UTC; with milliseconds, or with microseconds where it has any. */
char *
ps_format_timestamp(TimestampTz at)
{
	struct pg_tm tm;
	fsec_t		fsec;
	char	   *buffer = palloc(MAXDATELEN + 1);
	char	   *out;

	if (timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	/* not by sprintf(): a handler in SQL sees three times with each event */
	if (tm.tm_year < 0)
	{
		buffer[0] = '-';
		out = put_digits(buffer + 1, -tm.tm_year, 3, '-');
	}
	else
		out = put_digits(buffer, tm.tm_year, 4, '-');
	out = put_digits(out, tm.tm_mon, 2, '-');
	out = put_digits(out, tm.tm_mday, 2, 'T');
	out = put_digits(out, tm.tm_hour, 2, ':');
	out = put_digits(out, tm.tm_min, 2, ':');
	out = put_digits(out, tm.tm_sec, 2, '.');
	out = fsec % 1000 == 0 ? put_digits(out, fsec / 1000, 3, 'Z') : put_digits(out, fsec, 6, 'Z');
	*out = '\0';
	return buffer;
}
