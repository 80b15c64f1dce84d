/*
 * window.c
 *	  The packed window state of a profile row.
 *
 *	  The state has one entry for each series that ever had a sample of the customer:
 *	  a header (series, number of samples, bytes, number of sealed chunks, newest
 *	  sealed sample) and the packed samples. A sample is its timestamp, a length, and
 *	  the bytes of a numeric; length 0 stands for the value 1, which most samples
 *	  have.
 */
#include "postgres.h"

#include "compat.h"
#include "core/window.h"
#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

typedef struct SeriesHeader
{
	uint32		series;
	uint16		len;
	uint8		nsamples;
	int64		sealed_chunks;
	TimestampTz sealed_to;
} SeriesHeader;

#define SAMPLE_HEADER_BYTES (sizeof(TimestampTz) + 1)
#define NUMERIC_SHORT_FORM 0x8000	/* flags of a numeric's header, as in numeric.c */
#define NUMERIC_SPECIAL 0xC000	/* NaN or infinity, which no sample has */
#define FEW_SERIES 4

/* Inserts an empty series at an index of the sorted array. */
static PsSeries *
insert_series(PsWindow *window, int place, uint32 id)
{
	PsSeries   *series;

	if (window->nseries == window->capacity)
	{
		window->capacity = Max(FEW_SERIES, 2 * window->capacity);
		if (window->series == NULL)
			window->series = palloc(window->capacity * sizeof(PsSeries));
		else
			window->series = repalloc(window->series, window->capacity * sizeof(PsSeries));
	}
	series = &window->series[place];
	memmove(series + 1, series, (window->nseries++ - place) * sizeof(PsSeries));
	memset(series, 0, sizeof(PsSeries));
	series->id = id;
	series->sealed_to = DT_NOBEGIN;
	return series;
}

/* Unpacks a state. The series share its bytes until one gets a sample. */
bool
ps_window_load(PsWindow *window, const char *data, int len)
{
	const char *end = data + len;

	memset(window, 0, sizeof(PsWindow));
	while (data < end)
	{
		SeriesHeader header;
		PsSeries   *series;

		if (end - data < (ptrdiff_t) sizeof(SeriesHeader))
			return false;
		memcpy(&header, data, sizeof(SeriesHeader));
		data += sizeof(SeriesHeader);
		if (end - data < header.len ||
			(window->nseries > 0 && header.series <= window->series[window->nseries - 1].id))
			return false;
		series = insert_series(window, window->nseries, header.series);
		series->nsamples = header.nsamples;
		series->sealed_chunks = header.sealed_chunks;
		series->sealed_to = header.sealed_to;
		series->bytes = unconstify(char *, data);
		series->len = header.len;
		data += header.len;
	}
	return true;
}

/* Packs the state into a new bytea. */
bytea *
ps_window_save(const PsWindow *window)
{
	int			size = VARHDRSZ;
	bytea	   *result;
	char	   *out;

	for (int i = 0; i < window->nseries; i++)
		size += sizeof(SeriesHeader) + window->series[i].len;

	result = palloc(size);
	SET_VARSIZE(result, size);
	out = VARDATA(result);
	for (int i = 0; i < window->nseries; i++)
	{
		const PsSeries *series = &window->series[i];
		SeriesHeader header;

		memset(&header, 0, sizeof(header));
		header.series = series->id;
		header.nsamples = series->nsamples;
		header.len = series->len;
		header.sealed_chunks = series->sealed_chunks;
		header.sealed_to = series->sealed_to;
		memcpy(out, &header, sizeof(header));
		out += sizeof(header);
		if (series->len > 0)
			memcpy(out, series->bytes, series->len);
		out += series->len;
	}
	return result;
}

const PsSeries *
ps_window_find(const PsWindow *window, uint32 id)
{
	for (int i = 0; i < window->nseries; i++)
		if (window->series[i].id == id)
			return &window->series[i];
	return NULL;
}

/* Makes room for more bytes. Bytes that are still shared with the state are copied. */
static void
series_reserve(PsSeries *series, int more)
{
	char	   *bytes;

	if (series->len + more <= series->capacity)
		return;
	series->capacity = Max(256, 2 * (series->len + more));
	bytes = palloc(series->capacity);
	if (series->len > 0)
		memcpy(bytes, series->bytes, series->len);
	series->bytes = bytes;
}

/* Unpacks the open samples of a series, of which there is at least one. */
static PsSample *
unpack_open(const PsSeries *series, int *n)
{
	PsSample   *samples = ps_samples_unpack(series->bytes, series->len, n);

	if (*n != series->nsamples)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("window state has %d samples instead of %d", *n, series->nsamples)));
	return samples;
}

/* Moves the open samples of a series into a new chunk. */
static PsChunk *
series_seal(PsSeries *series)
{
	PsChunk    *chunk = palloc0(sizeof(PsChunk));
	int			n;
	PsSample   *samples = unpack_open(series, &n);

	chunk->series = ps_series_name(series->id);
	chunk->chunk_no = ++series->sealed_chunks;
	chunk->count = n;
	chunk->from_at = chunk->to_at = samples[0].at;
	chunk->sum = chunk->min = chunk->max = samples[0].value;
	for (int i = 1; i < n; i++)
	{
		Datum		value = NumericGetDatum(samples[i].value);

		chunk->from_at = Min(chunk->from_at, samples[i].at);
		chunk->to_at = Max(chunk->to_at, samples[i].at);
		chunk->sum = DatumGetNumeric(DirectFunctionCall2(numeric_add, NumericGetDatum(chunk->sum), value));
		chunk->min = DatumGetNumeric(DirectFunctionCall2(numeric_smaller, NumericGetDatum(chunk->min), value));
		chunk->max = DatumGetNumeric(DirectFunctionCall2(numeric_larger, NumericGetDatum(chunk->max), value));
	}
	chunk->samples = palloc(VARHDRSZ + series->len);
	SET_VARSIZE(chunk->samples, VARHDRSZ + series->len);
	memcpy(VARDATA(chunk->samples), series->bytes, series->len);

	series->sealed_to = Max(series->sealed_to, chunk->to_at);
	series->nsamples = 0;
	series->len = 0;
	return chunk;
}

/* Adds a sample to the open chunk of its series. Seals the chunk when it is full. */
PsChunk *
ps_window_add(PsWindow *window, uint32 id, TimestampTz at, Numeric value)
{
	int			value_len = value == NULL ? 0 : (int) VARSIZE(value) - VARHDRSZ;
	PsSeries   *series;
	PsSeries   *largest;
	char	   *out;
	int			total = 0;
	int			place = 0;

	Assert(value_len <= PG_UINT8_MAX);
	while (place < window->nseries && window->series[place].id < id)
		place++;
	if (place < window->nseries && window->series[place].id == id)
		series = &window->series[place];
	else
		series = insert_series(window, place, id);
	series_reserve(series, SAMPLE_HEADER_BYTES + value_len);
	out = series->bytes + series->len;
	memcpy(out, &at, sizeof(at));
	out[sizeof(at)] = (char) value_len;
	if (value_len > 0)
		memcpy(out + SAMPLE_HEADER_BYTES, VARDATA(value), value_len);
	series->len += SAMPLE_HEADER_BYTES + value_len;
	series->nsamples++;

	if (series->nsamples >= PS_CHUNK_SAMPLES)
		return series_seal(series);

	largest = series;
	for (int i = 0; i < window->nseries; i++)
	{
		total += window->series[i].len;
		if (window->series[i].len > largest->len)
			largest = &window->series[i];
	}
	return total > PS_WINDOW_BYTES ? series_seal(largest) : NULL;
}

/* Seals the first series whose open samples are all older than its longest window. */
PsChunk *
ps_window_seal_expired(PsWindow *window, const PsMetrics *metrics, TimestampTz now)
{
	for (int s = 0; s < window->nseries; s++)
	{
		PsSeries   *series = &window->series[s];
		int64		window_us = ps_series_window_us(metrics, series->id);
		int			n;
		PsSample   *samples;
		bool		expired = true;

		if (series->nsamples == 0 || window_us < 0)
			continue;
		samples = unpack_open(series, &n);
		for (int i = 0; i < n && expired; i++)
			expired = samples[i].at < now - window_us;
		pfree(samples);
		if (expired)
			return series_seal(series);
	}
	return NULL;
}

int
ps_window_forget(PsWindow *window, const PsMetrics *metrics)
{
	int			left = 0;
	int			forgotten = 0;

	for (int i = 0; i < window->nseries; i++)
	{
		if (ps_series_window_us(metrics, window->series[i].id) >= 0)
			window->series[left++] = window->series[i];
		else
			forgotten += Max(window->series[i].nsamples, 1);
	}
	window->nseries = left;
	return forgotten;
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

/* Unpacks samples, in the order of their arrival. */
PsSample *
ps_samples_unpack(const char *bytes, int len, int *nsamples)
{
	int			capacity = Max(1, len / (int) SAMPLE_HEADER_BYTES);
	PsSample   *samples = palloc(capacity * sizeof(PsSample));
	Numeric		one = NULL;
	int			n = 0;

	while (len > 0)
	{
		int			value_len = len < (int) SAMPLE_HEADER_BYTES ? 0 : (unsigned char) bytes[sizeof(TimestampTz)];

		if (len < (int) SAMPLE_HEADER_BYTES + value_len || !is_numeric(bytes + SAMPLE_HEADER_BYTES, value_len))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("window samples are damaged")));
		memcpy(&samples[n].at, bytes, sizeof(TimestampTz));
		if (value_len == 0)
		{
			if (one == NULL)
				one = int64_to_numeric(1);
			samples[n].value = one;
		}
		else
		{
			samples[n].value = palloc(VARHDRSZ + value_len);
			SET_VARSIZE(samples[n].value, VARHDRSZ + value_len);
			memcpy(VARDATA(samples[n].value), bytes + SAMPLE_HEADER_BYTES, value_len);
		}
		bytes += SAMPLE_HEADER_BYTES + value_len;
		len -= SAMPLE_HEADER_BYTES + value_len;
		n++;
	}
	*nsamples = n;
	return samples;
}
