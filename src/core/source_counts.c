/*
 * source_counts.c
 *	  Counts events by source. Packed, each source is its length and bytes, its number
 *	  of events, and the time of the newest one.
 */
#include "postgres.h"

#include "compat.h"
#include "core/source_counts.h"
#include "core/varint.h"

/* Finds the counts of a source; NULL when it has none. */
static PsSourceCount *
source_counts_find(PsSourceCounts *counts, const char *source, int len)
{
	/* events of one source come in a row */
	int			place = counts->last;

	for (int i = 0; i < counts->n; i++, place = place + 1 < counts->n ? place + 1 : 0)
	{
		if (counts->counts[place].len == len && memcmp(counts->counts[place].source, source, len) == 0)
		{
			counts->last = place;
			return &counts->counts[place];
		}
	}
	return NULL;
}

/* Begins to count a source. */
static PsSourceCount *
source_counts_insert(PsSourceCounts *counts, const char *source, int len)
{
	PsSourceCount *count;

	if (counts->counts == NULL)
		counts->counts = palloc((PS_MAX_COUNTED_SOURCES + 1) * sizeof(PsSourceCount));
	count = &counts->counts[counts->n];
	counts->last = counts->n++;
	count->source = source;
	count->len = len;
	count->applied = 0;
	count->last_event_at = DT_NOBEGIN;
	return count;
}

void
ps_source_counts_add(PsSourceCounts *counts, const char *source, int len, int64 applied, TimestampTz at)
{
	PsSourceCount *count;

	if (source == NULL)
		source = "";
	count = len <= PS_MAX_SOURCE_BYTES ? source_counts_find(counts, source, len) : NULL;
	if (count == NULL && (len > PS_MAX_SOURCE_BYTES || counts->n >= PS_MAX_COUNTED_SOURCES))
	{
		source = PS_OTHER_SOURCES;
		len = strlen(PS_OTHER_SOURCES);
		count = source_counts_find(counts, source, len);
	}
	if (count == NULL)
		count = source_counts_insert(counts, source, len);
	count->applied += applied;
	count->last_event_at = Max(count->last_event_at, at);
}

bool
ps_source_counts_load(PsSourceCounts *counts, const char *bytes, int len)
{
	const char *end = bytes + len;

	while (bytes < end)
	{
		uint64		source_len;
		uint64		applied;
		uint64		at;
		const char *source;

		if (!ps_varint_read(&bytes, end, &source_len) || source_len > PS_MAX_SOURCE_BYTES || source_len > (uint64) (end - bytes))
			return false;
		source = bytes;
		bytes += source_len;
		if (!ps_varint_read(&bytes, end, &applied) || !ps_varint_read(&bytes, end, &at) || applied > PG_INT64_MAX / 2)
			return false;
		ps_source_counts_add(counts, source, (int) source_len, (int64) applied, ps_unzigzag(at));
	}
	return true;
}

bytea *
ps_source_counts_save(const PsSourceCounts *counts)
{
	bytea	   *result = palloc(VARHDRSZ + counts->n * (3 * PS_VARINT_BYTES + PS_MAX_SOURCE_BYTES));
	char	   *out = VARDATA(result);

	for (int i = 0; i < counts->n; i++)
	{
		const PsSourceCount *count = &counts->counts[i];

		out = ps_varint_write(out, count->len);
		memcpy(out, count->source, count->len);
		out = ps_varint_write(out + count->len, count->applied);
		out = ps_varint_write(out, ps_zigzag(count->last_event_at));
	}
	SET_VARSIZE(result, out - (char *) result);
	return result;
}
