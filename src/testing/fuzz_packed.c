/*
 * fuzz_packed.c
 *	  Packs event ids and samples of a profile, reads them again, and reads damaged
 *	  ones, which must be refused or read as something else. For parser_fuzz().
 */
#include "postgres.h"

#include "compat.h"
#include "core/event_ids.h"
#include "core/samples.h"
#include "core/source_counts.h"
#include "core/totals.h"
#include "testing/fuzz.h"
#include "utils/numeric.h"

/* Bytes that were packed, and then damaged or cut. There is no byte behind their end. */
static struct varlena *
damaged_bytes(pg_prng_state *prng, const struct varlena *packed)
{
	int			len = VARSIZE(packed) - VARHDRSZ;
	int			kept = ps_fuzz_int(prng, 3) == 0 ? ps_fuzz_int(prng, len) : len;
	struct varlena *copy = palloc(VARHDRSZ + kept);

	memcpy(copy, packed, VARHDRSZ + kept);
	SET_VARSIZE(copy, VARHDRSZ + kept);
	for (int i = kept == 0 ? 0 : ps_fuzz_int(prng, 3); i > 0; i--)
		VARDATA(copy)[ps_fuzz_int(prng, kept - 1)] = (char) ps_fuzz_int(prng, 255);
	return copy;
}

/* Packs event ids, finds each of them again, and reads damaged ones. */
static const char *
try_event_ids(pg_prng_state *prng)
{
	TimestampTz now = (int64) ps_fuzz_int(prng, 1000000000) * 1000000;
	PsEventIds	ids;
	PsEventIds	again;
	PsIdHash	hash = {{0}};
	PsIdChunk  *sealed = NULL;
	uint32		second = 0;

	if (!ps_event_ids_load(&ids, NULL))
		return "no event ids";
	for (int i = ps_fuzz_int(prng, 40); i > 0; i--)
	{
		PsIdChunk  *chunk;

		now += (int64) ps_fuzz_int(prng, ps_fuzz_int(prng, 3) == 0 ? 20000000 : 100) * 1000000 - 1000000;
		hash = ps_event_id_hash(&ps_table_key, (const char *) &i, sizeof(i), 0);
		chunk = ps_event_ids_add(&ids, &hash, now);
		sealed = chunk != NULL ? chunk : sealed;
		if (chunk != NULL ? !ps_id_chunk_find(chunk->hashes, &hash) : !ps_event_ids_find(&ids, &hash, now - 1))
			return "event id that was added";
	}
	if (!ps_event_ids_load(&again, ps_event_ids_save(&ids)) || !ps_event_ids_equal(&ids, &again))
		return "packed event ids";
	if (sealed != NULL && ps_event_ids_sealed_to(&again) < sealed->sealed_to)
		return "time of sealed event ids";
	if (!ps_event_ids_load(&again, damaged_bytes(prng, ps_event_ids_save(&ids))))
		return NULL;
	for (int i = 0; i < again.nopen; i++)
		(void) ps_event_ids_time(&again, i, &second);
	(void) ps_event_ids_find(&again, &hash, now);
	(void) ps_event_ids_add(&again, &hash, now);
	return again.nopen < PS_CHUNK_IDS ? NULL : "event ids that are not sealed";
}

/* Reads something that is damaged, which may raise that and nothing else. */
static void
read_damaged(void (*read) (const void *packed), const void *packed)
{
	MemoryContext before = CurrentMemoryContext;

	PG_TRY();
	{
		read(packed);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(before);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_DATA_CORRUPTED)
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
}

static void
walk_samples(const void *packed)
{
	PsSampleWalk walk;

	for (ps_samples_walk(&walk, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed)); ps_samples_next(&walk);)
		 /* nothing */ ;
}

/* Packs samples of one series, reads them again, and reads damaged ones. */
static const char *
try_samples(pg_prng_state *prng)
{
	PsWindow	window = {0};
	PsWindow	again;
	int			n = ps_fuzz_int(prng, 20);
	TimestampTz times[20];
	bytea	   *packed;
	PsSample   *samples;
	int			found;

	for (int i = 0; i < n; i++)
	{
		Numeric		value = ps_fuzz_int(prng, 1) == 0 ? NULL : int64_div_fast_to_numeric(ps_fuzz_int(prng, 100000) - 50000, ps_fuzz_int(prng, 12));

		times[i] = (int64) ps_fuzz_int(prng, 1000000) * (ps_fuzz_int(prng, 1) == 0 ? 1000000 : 999);
		(void) ps_window_add(&window, 1, times[i], value);
	}
	packed = ps_window_save(&window);
	if (!ps_window_load(&again, VARDATA(packed), VARSIZE(packed) - VARHDRSZ) || again.nseries != Min(n, 1))
		return "window state";
	if (n == 0)
		return NULL;
	samples = ps_samples_unpack(again.series[0].bytes, again.series[0].len, &found);
	for (int i = 0; i < n; i++)
		if (found != n || samples[i].at != times[i])
			return "packed samples";
	packed = damaged_bytes(prng, packed);
	if (ps_window_load(&again, VARDATA(packed), VARSIZE(packed) - VARHDRSZ))
		for (int i = 0; i < again.nseries; i++)
		{
			bytea	   *bytes = palloc(VARHDRSZ + again.series[i].len);

			SET_VARSIZE(bytes, VARHDRSZ + again.series[i].len);
			memcpy(VARDATA(bytes), again.series[i].bytes, again.series[i].len);
			read_damaged(walk_samples, bytes);
			if (again.series[i].nsamples < PS_CHUNK_SAMPLES - 1)
				(void) ps_window_add(&again, again.series[i].id, times[0], NULL);
		}
	return NULL;
}

static void
read_packed_totals(const void *series)
{
	PsTotals	totals;

	ps_totals_read(series, &totals);
}

/* Folds samples of a lifetime series, reads its totals again, and reads damaged ones. */
static const char *
try_totals(pg_prng_state *prng)
{
	PsWindow	window = {0};
	PsWindow	again;
	PsTotals	totals;
	int			n = 1 + ps_fuzz_int(prng, 199);
	TimestampTz oldest = DT_NOEND;
	bytea	   *packed;

	for (int i = 0; i < n; i++)
	{
		TimestampTz at = (int64) ps_fuzz_int(prng, 1000000) * 1000000;

		oldest = Min(oldest, at);
		(void) ps_window_add_lifetime(&window, 1, at, ps_fuzz_int(prng, 1) == 0 ? NULL : int64_div_fast_to_numeric(ps_fuzz_int(prng, 100000) - 50000, ps_fuzz_int(prng, 12)));
	}
	packed = ps_window_save(&window);
	if (!ps_window_load(&again, VARDATA(packed), VARSIZE(packed) - VARHDRSZ) || again.nseries != 1 || !again.series[0].is_lifetime)
		return "window state with totals";
	ps_totals_read(&again.series[0], &totals);
	if (totals.count + again.series[0].nsamples != n || (totals.count > 0 && totals.from_at < oldest))
		return "totals";
	packed = damaged_bytes(prng, packed);
	if (ps_window_load(&again, VARDATA(packed), VARSIZE(packed) - VARHDRSZ))
		for (int i = 0; i < again.nseries; i++)
			read_damaged(read_packed_totals, &again.series[i]);
	return NULL;
}

/* Packs counts by source, reads them again, and reads damaged ones. */
static const char *
try_source_counts(pg_prng_state *prng)
{
	PsSourceCounts counts = {0};
	PsSourceCounts again = {0};
	PsSourceCounts damaged = {0};
	int			n = ps_fuzz_int(prng, 100);
	int64		total = 0;
	bytea	   *packed;

	for (int i = 0; i < n; i++)
	{
		char	   *source = psprintf("%0*d", ps_fuzz_int(prng, PS_MAX_SOURCE_BYTES + 10), ps_fuzz_int(prng, 60));

		ps_source_counts_add(&counts, source, strlen(source), 1, ps_fuzz_int(prng, 1000000) - 500000);
	}
	packed = ps_source_counts_save(&counts);
	if (counts.n > PS_MAX_COUNTED_SOURCES + 1 || !ps_source_counts_load(&again, VARDATA(packed), VARSIZE(packed) - VARHDRSZ) || again.n != counts.n)
		return "counts of sources";
	for (int i = 0; i < again.n; i++)
		total += again.counts[i].applied;
	packed = damaged_bytes(prng, packed);
	(void) ps_source_counts_load(&damaged, VARDATA(packed), VARSIZE(packed) - VARHDRSZ);
	return total == n && damaged.n <= PS_MAX_COUNTED_SOURCES + 1 ? NULL : "sum of counts of sources";
}

const char *
ps_fuzz_packed(pg_prng_state *prng)
{
	const char *wrong = try_event_ids(prng);

	if (wrong == NULL)
		wrong = try_samples(prng);
	if (wrong == NULL)
		wrong = try_totals(prng);
	return wrong != NULL ? wrong : try_source_counts(prng);
}
