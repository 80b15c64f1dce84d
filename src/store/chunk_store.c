/*
 * chunk_store.c
 *	  Rows of window_chunks. A batch adds them with one INSERT.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/chunk_store.h"
#include "store/chunk_tiles.h"
#include "store/plan.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define COLUMNS \
	"customer_id, metric, chunk_no, from_at, to_at, count, sum, min, max, samples," \
	" tile_chunks, tile_from_at, tile_to_at, tile_count, tile_sum, tile_min, tile_max"
#define NCOLUMNS 17
#define FIRST_TILE_COLUMN 10

static PsPlan add_plan = {
	"INSERT INTO profile_stream_internal.window_chunks (" COLUMNS ")"
	" SELECT " COLUMNS " FROM ROWS FROM (" PS_PLAN_ARRAYS ") AS c(" COLUMNS ")",
	NCOLUMNS, {TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID,
		NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, BYTEAARRAYOID,
	INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID},.first_array = 1
};

static const Oid column_types_of_chunk[NCOLUMNS] = {
	TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, NUMERICOID, NUMERICOID, NUMERICOID, BYTEAOID,
	INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, NUMERICOID, NUMERICOID, NUMERICOID
};

static PsPlan fold_plan = {
	"WITH folded AS ("
	" UPDATE profile_stream_internal.window_chunks c SET samples = NULL, days = ("
	" SELECT pg_catalog.array_agg(ROW(d.*)::profile_stream_internal.day_bucket ORDER BY d.day) FROM ("
	" SELECT (s.at AT TIME ZONE 'UTC')::date AS day, pg_catalog.count(*), pg_catalog.sum(s.value),"
	" pg_catalog.min(s.value), pg_catalog.max(s.value)"
	" FROM profile_stream_internal.chunk_samples(c.samples) s GROUP BY 1) d)"
	" WHERE c.ctid = ANY (ARRAY(SELECT x.ctid FROM profile_stream_internal.window_chunks x"
	" WHERE x.samples IS NOT NULL AND x.metric = $1 AND x.to_at < $2 ORDER BY x.to_at LIMIT $3 FOR UPDATE SKIP LOCKED))"
	" RETURNING c.count)"
	" SELECT COALESCE(pg_catalog.sum(f.count), 0)::int8 FROM folded f",
	3, {TEXTOID, TIMESTAMPTZOID, INT8OID}
};

static PsPlan next_series_plan = {
	"SELECT pg_catalog.min(c.metric) FROM profile_stream_internal.window_chunks c WHERE c.samples IS NOT NULL AND c.metric > $1",
	1, {TEXTOID}
};

static PsPlan forget_plan = {
	"WITH gone AS (DELETE FROM profile_stream_internal.window_chunks c WHERE c.ctid = ANY (ARRAY("
	" SELECT x.ctid FROM profile_stream_internal.window_chunks x WHERE x.samples IS NOT NULL AND x.metric = $1 LIMIT $2 FOR UPDATE SKIP LOCKED))"
	" RETURNING c.count)"
	" SELECT COALESCE(pg_catalog.sum(g.count), 0)::int8 FROM gone g",
	2, {TEXTOID, INT8OID}
};

static const char forget_others_sql[] =
"WITH gone AS (DELETE FROM profile_stream_internal.window_chunks c WHERE c.metric <> ALL ($1) RETURNING c.count)"
" SELECT COALESCE(pg_catalog.sum(g.count), 0)::int8 FROM gone g";

static const char folded_sql[] =
"SELECT EXISTS (SELECT FROM profile_stream_internal.window_chunks c WHERE c.metric = $1 AND c.samples IS NULL)";

/* Adds the columns of a chunk and of its tile, which are null where it has none. */
static void
add_columns(PsColumn *columns, const PsTiledChunk *tiled)
{
	const PsChunk *chunk = tiled->chunk;
	const PsChunk *tile = &tiled->tile;
	Datum		values[NCOLUMNS] = {
		CStringGetTextDatum(chunk->customer_id), CStringGetTextDatum(chunk->series), Int64GetDatum(chunk->chunk_no),
		TimestampTzGetDatum(chunk->from_at), TimestampTzGetDatum(chunk->to_at), Int64GetDatum(chunk->count),
		NumericGetDatum(chunk->sum), NumericGetDatum(chunk->min), NumericGetDatum(chunk->max), PointerGetDatum(chunk->samples),
		Int64GetDatum(tiled->span), TimestampTzGetDatum(tile->from_at), TimestampTzGetDatum(tile->to_at), Int64GetDatum(tile->count),
		NumericGetDatum(tile->sum), NumericGetDatum(tile->min), NumericGetDatum(tile->max)
	};

	for (int c = 0; c < NCOLUMNS; c++)
	{
		if (c < FIRST_TILE_COLUMN || tiled->span > 1)
			ps_column_add(&columns[c], values[c]);
		else
			ps_column_add_null(&columns[c]);
	}
}

void
ps_chunks_add(const PsChunk *first)
{
	PsColumn	columns[NCOLUMNS];
	Datum		args[NCOLUMNS];
	PsTiledChunk *chunks;
	int			n = 0;

	for (const PsChunk *chunk = first; chunk != NULL; chunk = chunk->next)
		n++;
	if (n == 0)
		return;
	chunks = palloc(n * sizeof(PsTiledChunk));
	n = 0;
	for (const PsChunk *chunk = first; chunk != NULL; chunk = chunk->next)
		chunks[n++].chunk = chunk;
	ps_chunk_tiles_make(chunks, n);
	for (int c = 0; c < NCOLUMNS; c++)
		ps_column_init(&columns[c], column_types_of_chunk[c], n);
	for (int i = 0; i < n; i++)
		add_columns(columns, &chunks[i]);
	for (int c = 0; c < NCOLUMNS; c++)
		args[c] = ps_column_array(&columns[c]);
	ps_plan_write(&add_plan, args, NULL, SPI_OK_INSERT, n, "window_chunks");
}

int64
ps_chunks_fold(const char *series, TimestampTz before, int max_chunks)
{
	Datum		args[3] = {CStringGetTextDatum(series), TimestampTzGetDatum(before), Int64GetDatum(max_chunks)};

	return ps_plan_number(&fold_plan, args);
}

char *
ps_chunks_next_series(const char *series)
{
	Datum		args[1] = {CStringGetTextDatum(series == NULL ? "" : series)};
	char	   *next;

	(void) ps_plan_run(&next_series_plan, args, NULL, SPI_OK_SELECT);
	next = ps_plan_text(0, 1);
	SPI_freetuptable(SPI_tuptable);
	return next;
}

int64
ps_chunks_forget(const char *series, int max_chunks)
{
	Datum		args[2] = {CStringGetTextDatum(series), Int64GetDatum(max_chunks)};

	return ps_plan_number(&forget_plan, args);
}

int64
ps_chunks_forget_others(const PsMetrics *metrics)
{
	static const Oid types[1] = {TEXTARRAYOID};
	Datum		args[1];
	PsColumn	names;
	bool		isnull;

	ps_column_init(&names, TEXTOID, PS_BUILTIN_SERIES + metrics->nseries);
	for (int i = 0; i < PS_BUILTIN_SERIES; i++)
		ps_column_add_text(&names, ps_series_name(i));
	for (int i = 0; i < metrics->nseries; i++)
		ps_column_add_text(&names, ps_series_name(metrics->series[i].series));
	args[0] = ps_column_array(&names);
	(void) ps_plan_run_once(forget_others_sql, 1, types, args, false);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

bool
ps_chunks_are_folded(const char *series)
{
	static const Oid types[1] = {TEXTOID};
	Datum		args[1] = {CStringGetTextDatum(series)};
	bool		isnull;

	(void) ps_plan_run_once(folded_sql, 1, types, args, false);
	return DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}
