/*
 * samples.c
 *	  Packed samples, the one that was added last first: its time, and then for each its
 *	  value and how much earlier the next one is. So a new sample changes only the begin
 *	  of its series in the row.
 *
 *	  Differences of time are in seconds if these are whole, else in microseconds. A value is a byte that tells its kind, and:
 *
 *	  one		nothing: the value is 1, as most are
 *	  amount	a varint: the value is this number / 10^scale, which is part of the kind
 *	  numeric	the length and the bytes of a numeric that fits none of these
 */
#include "postgres.h"

#include "common/int.h"
#include "compat.h"
#include "core/samples.h"
#include "core/varint.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#define KIND_ONE 0
#define KIND_AMOUNT 1			/* and the scale */
#define MAX_SCALE 9
#define KIND_NUMERIC (KIND_AMOUNT + MAX_SCALE + 1)
#define MICROSECONDS 0x80		/* added to the kind: the next difference is not in seconds */

#define ROOM 256				/* bytes that are kept free for more samples */
#define MAX_NUMERIC PG_UINT8_MAX	/* bytes; all values that can be samples have fewer */
#define MAX_SAMPLE (sizeof(TimestampTz) + 2 + MAX_NUMERIC + PS_VARINT_BYTES)

/* the short form of numeric, as in PostgreSQL's numeric.c */
#define NUMERIC_SHORT_FORM 0x8000
#define NUMERIC_SPECIAL 0xC000	/* NaN or infinity, which no sample has */
#define SHORT_NEGATIVE 0x2000
#define SHORT_SCALE(header) (((header) & 0x1F80) >> 7)
#define SHORT_WEIGHT(header) (((header) & 0x0040) ? (int) ((header) | ~0x003F) : (int) ((header) & 0x003F))
#define DIGIT_BASE 10000
#define DIGIT_DECIMALS 4
#define MAX_DIGITS 4			/* that surely fit an int64 with the zeros behind them */

/* Gives a numeric as an amount and a scale; false when it has too many digits. */
static bool
numeric_amount(Numeric value, int64 *amount, int *scale)
{
	const char *bytes = VARDATA(value);
	int			ndigits = ((int) VARSIZE(value) - VARHDRSZ - (int) sizeof(uint16)) / (int) sizeof(int16);
	uint16		header;
	int			zeros;

	memcpy(&header, bytes, sizeof(header));
	if ((header & NUMERIC_SPECIAL) != NUMERIC_SHORT_FORM || ndigits > MAX_DIGITS || SHORT_SCALE(header) > MAX_SCALE)
		return false;
	*scale = SHORT_SCALE(header);
	*amount = 0;
	for (int i = 0; i < ndigits; i++)
	{
		int16		digit;

		memcpy(&digit, bytes + sizeof(header) + i * sizeof(digit), sizeof(digit));
		*amount = *amount * DIGIT_BASE + digit;
	}
	if (ndigits == 0)
		return true;
	/* the last digit stands for this power of ten, when the value is multiplied by 10^scale */
	zeros = (SHORT_WEIGHT(header) - ndigits + 1) * DIGIT_DECIMALS + *scale;
	for (; zeros > 0; zeros--)
		if (pg_mul_s64_overflow(*amount, 10, amount))
			return false;
	for (; zeros < 0; zeros++)
	{
		if (*amount % 10 != 0)
			return false;
		*amount /= 10;
	}
	if ((header & SHORT_NEGATIVE) != 0)
		*amount = -*amount;
	return true;
}

static void
complain_of_samples(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("window samples are damaged")));
}

/* Writes a value and returns the place behind it. */
static char *
samples_write_value(char *out, Numeric value, int flags)
{
	int64		amount;
	int			scale;
	int			len;
	bool		is_amount = value != NULL && numeric_amount(value, &amount, &scale);

	if (value == NULL || (is_amount && amount == 1 && scale == 0))
	{
		*out++ = (char) (KIND_ONE | flags);
		return out;
	}
	if (is_amount)
	{
		*out++ = (char) ((KIND_AMOUNT + scale) | flags);
		return ps_varint_write(out, ps_zigzag(amount));
	}
	len = VARSIZE(value) - VARHDRSZ;
	/* no event has such a value, but the sum of damaged ones may */
	if (len > MAX_NUMERIC)
		complain_of_samples();
	*out++ = (char) (KIND_NUMERIC | flags);
	*out++ = (char) len;
	memcpy(out, VARDATA(value), len);
	return out + len;
}

/* Makes room before the bytes of a series, which may be shared with the state. */
static void
samples_reserve(PsSeries *series)
{
	int			room = MAX_SAMPLE + ROOM;
	char	   *bytes;

	if (series->room >= MAX_SAMPLE)
		return;
	bytes = palloc(room + series->len);
	if (series->len > 0)
		memcpy(bytes + room, series->bytes, series->len);
	series->bytes = bytes + room;
	series->room = room;
}

void
ps_samples_add(PsSeries *series, TimestampTz at, Numeric value)
{
	char		begin[MAX_SAMPLE];
	char	   *out = begin + sizeof(at);
	int			len;

	samples_reserve(series);
	memcpy(begin, &at, sizeof(at));
	if (series->len == 0)
		out = samples_write_value(out, value, 0);
	else
	{
		TimestampTz before;
		int64		difference;

		/* the time of the sample that was first becomes its difference to this one; it wraps as unsigned numbers do */
		memcpy(&before, series->bytes, sizeof(before));
		difference = (int64) ((uint64) at - (uint64) before);
		out = samples_write_value(out, value, difference % USECS_PER_SEC == 0 ? 0 : MICROSECONDS);
		out = ps_varint_write(out, ps_zigzag(difference % USECS_PER_SEC == 0 ? difference / USECS_PER_SEC : difference));
		series->bytes += sizeof(before);
		series->len -= sizeof(before);
		series->room += sizeof(before);
	}
	len = out - begin;
	series->bytes -= len;
	series->len += len;
	series->room -= len;
	memcpy(series->bytes, begin, len);
	series->nsamples++;
}

/* Whether bytes can be a numeric: a header of 2 bytes, or 4 in the long form, and digits of 2 bytes, each below 10,000. */
static bool
is_numeric(const char *bytes, int len)
{
	uint16		header;
	int16		digit;
	int			at;

	if (len == 0)
		return true;
	if (len % 2 != 0)
		return false;
	memcpy(&header, bytes, sizeof(header));
	at = (header & NUMERIC_SHORT_FORM) != 0 ? 2 : 4;
	if (len < at || (header & NUMERIC_SPECIAL) == NUMERIC_SPECIAL)
		return false;
	for (; at < len; at += sizeof(digit))
	{
		memcpy(&digit, bytes + at, sizeof(digit));
		if (digit < 0 || digit > 9999)
			return false;
	}
	return true;
}

void
ps_samples_walk(PsSampleWalk *walk, const char *bytes, int len)
{
	walk->next = bytes;
	walk->end = bytes + len;
	walk->earlier = 0;
	if (len == 0)
		return;
	if (len <= (int) sizeof(TimestampTz))
		complain_of_samples();
	memcpy(&walk->at, bytes, sizeof(TimestampTz));
	walk->next += sizeof(TimestampTz);
}

/* Reads a numeric, which gets a header of its own. */
static Numeric
samples_read_numeric(PsSampleWalk *walk)
{
	int			len = walk->next < walk->end ? (unsigned char) *walk->next++ : 0;
	Numeric		value;

	if (len == 0 || walk->end - walk->next < len || !is_numeric(walk->next, len))
		complain_of_samples();
	value = palloc(VARHDRSZ + len);
	SET_VARSIZE(value, VARHDRSZ + len);
	memcpy(VARDATA(value), walk->next, len);
	walk->next += len;
	return value;
}

bool
ps_samples_next(PsSampleWalk *walk)
{
	int			flags;
	int			kind;
	uint64		number = 0;

	CHECK_FOR_INTERRUPTS();		/* whoever calls a function with a state of his own chooses how many there are */
	if (walk->next == walk->end)
		return false;
	flags = (unsigned char) *walk->next++;
	kind = flags & ~MICROSECONDS;
	walk->at = (TimestampTz) ((uint64) walk->at - (uint64) walk->earlier);
	walk->amount = 1;
	walk->scale = 0;
	walk->value = NULL;
	if (kind == KIND_NUMERIC)
		walk->value = samples_read_numeric(walk);
	else if (kind != KIND_ONE)
	{
		if (kind > KIND_NUMERIC || !ps_varint_read(&walk->next, walk->end, &number))
			complain_of_samples();
		walk->amount = ps_unzigzag(number);
		walk->scale = kind - KIND_AMOUNT;
	}
	if (walk->next == walk->end)
		return true;
	if (!ps_varint_read(&walk->next, walk->end, &number) || walk->next == walk->end)
		complain_of_samples();
	walk->earlier = ps_unzigzag(number);
	if ((flags & MICROSECONDS) == 0)
		walk->earlier = (TimestampTz) ((uint64) walk->earlier * USECS_PER_SEC);
	return true;
}

Numeric
ps_sample_value(const PsSampleWalk *walk)
{
	if (walk->value != NULL)
		return walk->value;
	return walk->scale == 0 ? int64_to_numeric(walk->amount) : int64_div_fast_to_numeric(walk->amount, walk->scale);
}

PsSample *
ps_samples_unpack(const char *bytes, int len, int *nsamples)
{
	int			capacity = Max(1, len / 2); /* a sample has two bytes at least */
	PsSample   *samples = palloc(capacity * sizeof(PsSample));
	Numeric		one = NULL;
	PsSampleWalk walk;
	int			n = 0;

	for (ps_samples_walk(&walk, bytes, len); ps_samples_next(&walk); n++)
	{
		/* from the end of the array on, because the last one comes first */
		PsSample   *sample = &samples[capacity - 1 - n];

		sample->at = walk.at;
		if (walk.value != NULL || walk.amount != 1 || walk.scale != 0)
			sample->value = ps_sample_value(&walk);
		else
			sample->value = one = one != NULL ? one : ps_sample_value(&walk);
	}
	*nsamples = n;
	memmove(samples, samples + capacity - n, n * sizeof(PsSample));
	return samples;
}
