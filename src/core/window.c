/*
 * window.c
 *	  The packed window state of a profile row.
 *
 *	  The state has one entry for each series that ever had a sample of the customer:
 *	  numbers (series, samples, bytes, sealed chunks, newest sealed sample) and the
 *	  packed samples. samples.c packs them. The number of samples of a lifetime series
 *	  has a flag, and its totals follow the samples, after their length.
 */
#include "postgres.h"

#include "compat.h"
#include "core/numeric_call.h"
#include "core/samples.h"
#include "core/totals.h"
#include "core/varint.h"
#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#define MAX_ENTRY_BYTES 64		/* of the numbers of an entry */
#define FEW_SERIES 4
#define LIFETIME 128			/* added to the number of samples */

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

/* Finds the totals of an entry; false when the bytes are damaged. */
static bool
window_read_totals(const char **next, const char *end, PsSeries *series)
{
	uint64		len;

	if (!ps_varint_read(next, end, &len) || len > (uint64) (end - *next))
		return false;
	series->totals = *next;
	series->totals_len = (int) len;
	*next += len;
	return true;
}

/* Reads the next entry of a state, whose samples are not copied; false when the bytes are damaged. */
static bool
window_read_entry(const char **next, const char *end, PsSeries *series)
{
	uint64		numbers[4];		/* series, samples, bytes, sealed chunks */

	memset(series, 0, sizeof(PsSeries));
	series->sealed_to = DT_NOBEGIN;
	for (int i = 0; i < lengthof(numbers); i++)
		if (!ps_varint_read(next, end, &numbers[i]))
			return false;
	series->id = (uint32) numbers[0];
	series->is_lifetime = (numbers[1] & LIFETIME) != 0;
	numbers[1] &= ~(uint64) LIFETIME;
	series->nsamples = (int) numbers[1];
	series->sealed_chunks = (int64) numbers[3];
	if (numbers[0] > PG_UINT32_MAX || numbers[1] > PS_CHUNK_SAMPLES || numbers[3] > PG_INT64_MAX || (series->is_lifetime && numbers[3] > 0))
		return false;
	if (numbers[3] > 0)
	{
		if (end - *next < (ptrdiff_t) sizeof(TimestampTz))
			return false;
		memcpy(&series->sealed_to, *next, sizeof(TimestampTz));
		*next += sizeof(TimestampTz);
	}
	if (numbers[2] > (uint64) (end - *next) || (numbers[1] == 0) != (numbers[2] == 0) ||
		(numbers[2] > 0 && numbers[2] <= sizeof(TimestampTz)))
		return false;
	series->bytes = unconstify(char *, *next);
	series->len = (int) numbers[2];
	*next += series->len;
	return !series->is_lifetime || window_read_totals(next, end, series);
}

/* Unpacks a state. The series share its bytes until one gets a sample. */
bool
ps_window_load(PsWindow *window, const char *data, int len)
{
	const char *end = data + len;

	memset(window, 0, sizeof(PsWindow));
	while (data < end)
	{
		PsSeries	series;

		if (!window_read_entry(&data, end, &series) ||
			(window->nseries > 0 && series.id <= window->series[window->nseries - 1].id))
			return false;
		*insert_series(window, window->nseries, series.id) = series;
	}
	return true;
}

bool
ps_window_read(const char *data, int len, uint32 id, PsSeries *series, bool *found)
{
	const char *end = data + len;

	*found = false;
	while (data < end)
	{
		if (!window_read_entry(&data, end, series))
			return false;
		if (series->id >= id)
		{
			*found = series->id == id;
			break;
		}
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
		size += MAX_ENTRY_BYTES + window->series[i].len + window->series[i].totals_len;

	result = palloc(size);
	out = VARDATA(result);
	for (int i = 0; i < window->nseries; i++)
	{
		const PsSeries *series = &window->series[i];

		out = ps_varint_write(out, series->id);
		out = ps_varint_write(out, series->nsamples + (series->is_lifetime ? LIFETIME : 0));
		out = ps_varint_write(out, series->len);
		out = ps_varint_write(out, series->sealed_chunks);
		if (series->sealed_chunks > 0)
		{
			memcpy(out, &series->sealed_to, sizeof(TimestampTz));
			out += sizeof(TimestampTz);
		}
		if (series->len > 0)
			memcpy(out, series->bytes, series->len);
		out += series->len;
		if (series->is_lifetime)
		{
			out = ps_varint_write(out, series->totals_len);
			if (series->totals_len > 0)
				memcpy(out, series->totals, series->totals_len);
			out += series->totals_len;
		}
	}
	SET_VARSIZE(result, out - (char *) result);
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

static void *
copy_varlena(const void *value)
{
	return memcpy(palloc(VARSIZE(value)), value, VARSIZE(value));
}

PsChunk *
ps_chunk_copy(const PsChunk *chunk, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	PsChunk    *copy = palloc(sizeof(PsChunk));

	*copy = *chunk;
	copy->series = pstrdup(chunk->series);
	copy->sum = copy_varlena(chunk->sum);
	copy->min = copy_varlena(chunk->min);
	copy->max = copy_varlena(chunk->max);
	copy->samples = copy_varlena(chunk->samples);
	MemoryContextSwitchTo(old);
	return copy;
}

/* Moves the open samples of a series into a new chunk; those of a lifetime series into its totals, and returns NULL. */
static PsChunk *
series_seal(PsSeries *series)
{
	PsChunk    *chunk;
	int			n;
	PsSample   *samples;

	if (series->is_lifetime)
	{
		ps_totals_fold(series);
		return NULL;
	}
	chunk = palloc0(sizeof(PsChunk));
	samples = unpack_open(series, &n);
	chunk->series = ps_series_name(series->id);
	chunk->chunk_no = ++series->sealed_chunks;
	chunk->count = n;
	chunk->from_at = chunk->to_at = samples[0].at;
	chunk->sum = chunk->min = chunk->max = samples[0].value;
	for (int i = 1; i < n; i++)
	{
		chunk->from_at = Min(chunk->from_at, samples[i].at);
		chunk->to_at = Max(chunk->to_at, samples[i].at);
		chunk->sum = ps_numeric_call(numeric_add, chunk->sum, samples[i].value);
		chunk->min = ps_numeric_call(numeric_smaller, chunk->min, samples[i].value);
		chunk->max = ps_numeric_call(numeric_larger, chunk->max, samples[i].value);
	}
	chunk->samples = palloc(VARHDRSZ + series->len);
	SET_VARSIZE(chunk->samples, VARHDRSZ + series->len);
	memcpy(VARDATA(chunk->samples), series->bytes, series->len);

	series->sealed_to = Max(series->sealed_to, chunk->to_at);
	series->nsamples = 0;
	series->len = 0;
	series->room = 0;
	return chunk;
}

/* The series of that number; it is made when the customer has none. */
static PsSeries *
window_take_series(PsWindow *window, uint32 id)
{
	int			place = 0;

	while (place < window->nseries && window->series[place].id < id)
		place++;
	if (place < window->nseries && window->series[place].id == id)
		return &window->series[place];
	return insert_series(window, place, id);
}

/* Adds a sample to the open chunk of its series. Seals the chunk when it is full. */
static PsChunk *
add_to_series(PsWindow *window, PsSeries *series, TimestampTz at, Numeric value)
{
	PsSeries   *largest = series;
	int			total = 0;

	ps_samples_add(series, at, value);
	if (series->nsamples >= PS_CHUNK_SAMPLES)
		return series_seal(series);
	for (int i = 0; i < window->nseries; i++)
	{
		total += window->series[i].len;
		if (window->series[i].len > largest->len)
			largest = &window->series[i];
	}
	return total > PS_WINDOW_BYTES ? series_seal(largest) : NULL;
}

PsChunk *
ps_window_add(PsWindow *window, uint32 id, TimestampTz at, Numeric value)
{
	return add_to_series(window, window_take_series(window, id), at, value);
}

PsChunk *
ps_window_add_lifetime(PsWindow *window, uint32 id, TimestampTz at, Numeric value)
{
	PsSeries   *series = window_take_series(window, id);

	series->is_lifetime = true;
	return add_to_series(window, series, at, value);
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

		if (series->nsamples == 0 || window_us < 0 || series->is_lifetime)
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
