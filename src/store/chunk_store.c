/*
 * chunk_store.c
 *	  Rows of window_chunks: one INSERT a batch; a value reads the sums of the
 *	  chunks inside the window and the samples of those at its edges.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/chunk_store.h"
#include "store/plan.h"
#include "store/shadow.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static PsPlan add_plan = {
	"INSERT INTO profile_stream.window_chunks"
	" (customer_id, metric, chunk_no, from_at, to_at, count, sum, min, max, samples)"
	" SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3),"
	" pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7),"
	" pg_catalog.unnest($8), pg_catalog.unnest($9), pg_catalog.unnest($10))"
	" AS c(customer_id, metric, chunk_no, from_at, to_at, count, sum, min, max, samples)",
	10, {TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID,
	NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, BYTEAARRAYOID}
};

#define SELECT_VALUE(schema) \
	"SELECT c.from_at >= $3 AND c.to_at <= $4, c.count, c.sum," \
	" CASE WHEN c.from_at >= $3 AND c.to_at <= $4 THEN NULL ELSE c.samples END, c.to_at" \
	" FROM " schema ".window_chunks c" \
	" WHERE c.customer_id = $1 AND c.metric = $2 AND c.to_at >= $3 AND c.from_at <= $4"

static PsPlan value_plan = {
	SELECT_VALUE("profile_stream"), 4, {TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
};

static PsPlan shadow_value_plan = {
	SELECT_VALUE(PS_SHADOW_SCHEMA), 4, {TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
};

static PsPlan fold_plan = {
	"WITH folded AS ("
	" UPDATE profile_stream.window_chunks c SET samples = NULL, days = ("
	" SELECT pg_catalog.array_agg(ROW(d.*)::profile_stream.day_bucket ORDER BY d.day) FROM ("
	" SELECT (s.at AT TIME ZONE 'UTC')::date AS day, pg_catalog.count(*), pg_catalog.sum(s.value),"
	" pg_catalog.min(s.value), pg_catalog.max(s.value)"
	" FROM profile_stream.chunk_samples(c.samples) s GROUP BY 1) d)"
	" WHERE c.ctid = ANY (ARRAY(SELECT x.ctid FROM profile_stream.window_chunks x"
	" WHERE x.samples IS NOT NULL AND x.metric = $1 AND x.to_at < $2 ORDER BY x.to_at LIMIT $3 FOR UPDATE SKIP LOCKED))"
	" RETURNING c.count)"
	" SELECT COALESCE(pg_catalog.sum(f.count), 0)::int8 FROM folded f",
	3, {TEXTOID, TIMESTAMPTZOID, INT8OID}
};

void
ps_chunks_add(PsChunk **chunks, int n)
{
	static const Oid types[10] = {
		TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID,
		NUMERICOID, NUMERICOID, NUMERICOID, BYTEAOID
	};
	PsColumn	columns[10];
	Datum		args[10];

	if (n == 0)
		return;
	for (int c = 0; c < 10; c++)
		ps_column_init(&columns[c], types[c], n);
	for (int i = 0; i < n; i++)
	{
		const PsChunk *chunk = chunks[i];

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
	(void) ps_plan_run(&add_plan, args, NULL, SPI_OK_INSERT);
}

void
ps_chunks_value(bool shadow, const char *customer_id, const char *series,
				TimestampTz from_at, TimestampTz to_at, PsWindowValue *value)
{
	static const Oid types[4] = {BOOLOID, INT8OID, NUMERICOID, BYTEAOID};
	Datum		args[4];
	uint64		found;

	args[0] = CStringGetTextDatum(customer_id);
	args[1] = CStringGetTextDatum(series);
	args[2] = TimestampTzGetDatum(from_at);
	args[3] = TimestampTzGetDatum(to_at);
	found = ps_plan_read(shadow ? &shadow_value_plan : &value_plan, args);
	ps_plan_check_types(types, 4);
	for (uint64 i = 0; i < found; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		if (DatumGetBool(SPI_getbinval(tuple, desc, 1, &isnull)))
		{
			int64		count = DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull));

			ps_window_value_add(value, count, DatumGetNumeric(SPI_getbinval(tuple, desc, 3, &isnull)));
		}
		else
		{
			Datum		samples = SPI_getbinval(tuple, desc, 4, &isnull);
			bytea	   *packed;

			if (isnull)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("exact samples of customer \"%s\" that this moment needs were folded into daily buckets", customer_id),
						 errhint("Ask for a later as_of, or read daily values with metric_trend().")));
			packed = DatumGetByteaPP(samples);
			ps_window_value_add_samples(value, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed), from_at, to_at);
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
