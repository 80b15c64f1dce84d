/*
 * iso8601.c
 *	  How documents, notifications and attributes write a timestamp.
 */
#include "postgres.h"

#include "core/iso8601.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

/* Writes a number with so many digits at least, and a character; returns what follows. */
static char *
put_digits(char *out, int number, int width, char next)
{
	out = pg_ultostr_zeropad(out, (uint32) number, width);
	*out++ = next;
	return out;
}

/* Milliseconds, or microseconds where there are any; always UTC. */
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
	/* each digit by hand: handlers are shown three times an event */
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
