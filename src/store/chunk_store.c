/*
 * chunk_store.c
 *	  Rows of window_chunks. A batch adds them with one INSERT. The value of a metric
 *	  needs the sums of the chunks inside its window, and the samples of the chunks
 *	  at the edges only.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "settings.h"
#include "store/chunk_store.h"
#include "store/plan.h"
#include "store/rebuild_schema.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static PsPlan add_plan = {
	"INSERT INTO profile_stream_internal.window_chunks"
	" (customer_id, metric, chunk_no, from_at, to_at, count, sum, min, max, samples)"
	" SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3),"
	" pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7),"
	" pg_catalog.unnest($8), pg_catalog.unnest($9), pg_catalog.unnest($10))"
	" AS c(customer_id, metric, chunk_no, from_at, to_at, count, sum, min, max, samples)",
	10, {TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID,
	NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, BYTEAARRAYOID}
};

#define INSIDE "c.from_at >= $3 AND c.to_at <= $4"

#define SELECT_VALUE(schema) \
	"SELECT " INSIDE " AND $5, c.count, c.sum, c.min, c.max, CASE WHEN " INSIDE " AND $5 THEN NULL ELSE c.samples END" \
	" FROM " schema ".window_chunks c" \
	" WHERE c.customer_id = $1 AND c.metric = $2 AND c.to_at >= $3 AND c.from_at <= $4"

/* the last sample is in the chunk that ends last in the window; $5 is not used */
#define SELECT_LAST(schema) \
	"SELECT $5, c.count, c.sum, c.min, c.max, c.samples FROM " schema ".window_chunks c" \
	" WHERE c.customer_id = $1 AND c.metric = $2 AND ((c.to_at > $4 AND c.from_at <= $4)" \
	" OR (c.to_at, c.chunk_no) = (SELECT l.to_at, l.chunk_no FROM " schema ".window_chunks l" \
	" WHERE l.customer_id = $1 AND l.metric = $2 AND l.to_at BETWEEN $3 AND $4 ORDER BY l.to_at DESC, l.chunk_no DESC LIMIT 1))" \
	" ORDER BY c.chunk_no"

#define VALUE_ARGS 5, {TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID}

static PsPlan value_plan = {SELECT_VALUE(PS_INTERNAL_SCHEMA), VALUE_ARGS};
static PsPlan rebuild_value_plan = {SELECT_VALUE(PS_REBUILD_SCHEMA), VALUE_ARGS};
static PsPlan last_plan = {SELECT_LAST(PS_INTERNAL_SCHEMA), VALUE_ARGS};
static PsPlan rebuild_last_plan = {SELECT_LAST(PS_REBUILD_SCHEMA), VALUE_ARGS};

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

void
ps_chunks_add(PsChunk *first)
{
	static const Oid types[10] = {
		TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID,
		NUMERICOID, NUMERICOID, NUMERICOID, BYTEAOID
	};
	PsColumn	columns[10];
	Datum		args[10];
	int			n = 0;

	for (const PsChunk *chunk = first; chunk != NULL; chunk = chunk->next)
		n++;
	if (n == 0)
		return;
	for (int c = 0; c < 10; c++)
		ps_column_init(&columns[c], types[c], n);
	for (const PsChunk *chunk = first; chunk != NULL; chunk = chunk->next)
	{
		ps_column_add_text(&columns[0], chunk->customer_id);
		ps_column_add_text(&columns[1], chunk->series);
		ps_column_add(&columns[2], Int64GetDatum(chunk->chunk_no));
		ps_column_add_time(&columns[3], chunk->from_at);
		ps_column_add_time(&columns[4], chunk->to_at);
		ps_column_add(&columns[5], Int64GetDatum(chunk->count));
		ps_column_add(&columns[6], NumericGetDatum(chunk->sum));
		ps_column_add(&columns[7], NumericGetDatum(chunk->min));
		ps_column_add(&columns[8], NumericGetDatum(chunk->max));
		ps_column_add(&columns[9], PointerGetDatum(chunk->samples));
	}
	for (int c = 0; c < 10; c++)
		args[c] = ps_column_array(&columns[c]);
	ps_plan_write(&add_plan, args, NULL, SPI_OK_INSERT, n, "window_chunks");
}

/* Reads count, sum, min and max of a chunk from a row. */
static PsChunk
get_sums(HeapTuple tuple, TupleDesc desc)
{
	PsChunk		chunk = {0};
	bool		isnull;

	chunk.count = DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull));
	chunk.sum = DatumGetNumeric(SPI_getbinval(tuple, desc, 3, &isnull));
	chunk.min = DatumGetNumeric(SPI_getbinval(tuple, desc, 4, &isnull));
	chunk.max = DatumGetNumeric(SPI_getbinval(tuple, desc, 5, &isnull));
	return chunk;
}

void
ps_chunks_value(bool in_rebuild, const char *customer_id, const char *series, PsWindowValue *value)
{
	static const Oid types[6] = {BOOLOID, INT8OID, NUMERICOID, NUMERICOID, NUMERICOID, BYTEAOID};
	bool		last = value->aggregate == PS_AGGREGATE_LAST;
	Datum		args[5] = {
		CStringGetTextDatum(customer_id), CStringGetTextDatum(series), TimestampTzGetDatum(value->from_at),
		TimestampTzGetDatum(value->to_at), BoolGetDatum(ps_window_value_takes_sums(value))
	};
	uint64		found = ps_plan_read(last ? (in_rebuild ? &rebuild_last_plan : &last_plan) : (in_rebuild ? &rebuild_value_plan : &value_plan), args);

	ps_plan_check_types(types, 6);
	for (uint64 i = 0; i < found; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		if (DatumGetBool(SPI_getbinval(tuple, desc, 1, &isnull)))
		{
			PsChunk		chunk = get_sums(tuple, desc);

			ps_window_value_add(value, &chunk);
		}
		else
		{
			Datum		samples = SPI_getbinval(tuple, desc, 6, &isnull);
			bytea	   *packed;

			if (isnull)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("exact samples of customer \"%s\" for this moment were folded into daily buckets", customer_id),
						 errhint("Ask for a later as_of, or read daily values with metric_trend().")));
			packed = DatumGetByteaPP(samples);
			ps_window_value_add_samples(value, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
		}
	}
	SPI_freetuptable(SPI_tuptable);
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
