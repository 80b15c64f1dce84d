/*
 * iso8601.c
 *	  Writes a timestamp as documents, notifications and attributes have it.
 */
#include "postgres.h"

#include "core/iso8601.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* Writes two digits, and then a character; returns the place behind them. */
static char *
put_two(char *out, int number, char next)
{
	out[0] = '0' + number / 10;
	out[1] = '0' + number % 10;
	out[2] = next;
	return out + 3;
}

/* Writes the date of a time, with the T behind it; returns its length. */
static int
put_date(char *out, TimestampTz at)
{
	char	   *begin = out;
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	if (tm.tm_year < 0)
		*out++ = '-';
	out = pg_ultostr_zeropad(out, abs(tm.tm_year), tm.tm_year < 0 ? 3 : 4);
	*out++ = '-';
	out = put_two(out, tm.tm_mon, '-');
	return put_two(out, tm.tm_mday, 'T') - begin;
}

char *
ps_iso8601_put(char *out, TimestampTz at)
{
	/* the date of the last call: most times that follow each other are of one day */
	static char known_date[PS_ISO8601_SIZE];
	static int	known_len = 0;
	static int64 known_day = 0;
	int64		day = at / USECS_PER_DAY - (at % USECS_PER_DAY < 0);
	int64		time;
	int			seconds;
	int			fraction;

	if (known_len == 0 || day != known_day)
	{
		known_len = 0;			/* an error may come */
		known_len = put_date(known_date, at);
		known_day = day;
	}
	memcpy(out, known_date, known_len);
	out += known_len;
	time = at - day * USECS_PER_DAY;
	seconds = time / USECS_PER_SEC;
	fraction = time % USECS_PER_SEC;
	out = put_two(out, seconds / SECS_PER_HOUR, ':');
	out = put_two(out, seconds / SECS_PER_MINUTE % MINS_PER_HOUR, ':');
	out = put_two(out, seconds % SECS_PER_MINUTE, '.');
	out = fraction % 1000 == 0 ? pg_ultostr_zeropad(out, fraction / 1000, 3) : pg_ultostr_zeropad(out, fraction, 6);
	*out++ = 'Z';
	*out = '\0';
	return out;
}

char *
ps_format_timestamp(TimestampTz at)
{
	char	   *buffer = palloc(PS_ISO8601_SIZE);

	ps_iso8601_put(buffer, at);
	return buffer;
}
