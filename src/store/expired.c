/*
 * expired.c
 *	  Removes old chunks of event ids and dead letters. A worker calls this between batches, in
 *	  small steps. Rows that another transaction has locked are left for the next
 *	  round, so that no step waits.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "storage/itemptr.h"
#include "store/expired.h"
#include "store/plan.h"
#include "utils/timestamp.h"

static PsPlan size_plan = {
	"SELECT pg_catalog.pg_relation_size('profile_stream_internal.event_id_chunks') / pg_catalog.current_setting('block_size')::int8,"
	" (EXTRACT(epoch FROM GREATEST(pg_catalog.max(s.dedupe_retention), '7 days')) * 1000000)::int8"
	" FROM profile_stream.streams s",
	0, {0}
};

/* by ranges of pages: an index on sealed_to would cost something for each chunk */
static PsPlan forget_plan = {
	"DELETE FROM profile_stream_internal.event_id_chunks e WHERE e.ctid = ANY (ARRAY("
	" SELECT x.ctid FROM profile_stream_internal.event_id_chunks x"
	" WHERE x.ctid >= $1 AND x.ctid < $2 AND x.sealed_to <= $3 FOR UPDATE SKIP LOCKED))",
	3, {TIDOID, TIDOID, TIMESTAMPTZOID}
};

#define STEP_BYTES "33554432"	/* of values in one step, because each TOAST chunk is a row to be deleted too */

/* deletes the oldest dead letters that meet a condition, up to limits of rows and bytes */
#define DELETE_LETTERS(condition, limit) \
	"DELETE FROM profile_stream_internal.dead_letters d WHERE d.dead_letter_id = ANY (ARRAY(" \
	" SELECT z.dead_letter_id FROM (SELECT y.dead_letter_id, pg_catalog.sum(y.size) OVER (ORDER BY y.dead_letter_id) - y.size AS before" \
	"  FROM (SELECT x.dead_letter_id, COALESCE(pg_catalog.pg_column_size(x.value), 0) AS size" \
	"   FROM profile_stream_internal.dead_letters x WHERE " condition " ORDER BY x.dead_letter_id LIMIT " limit " FOR UPDATE SKIP LOCKED) y) z" \
	" WHERE z.before < " STEP_BYTES "))"

static PsPlan discard_plan = {
	DELETE_LETTERS("x.dead_at < $1", "$2"),
	2, {TIMESTAMPTZOID, INT8OID}
};

/* dead letters older than those that fill the limit of their stream; sizes are as stored, so that no value is read */
#define EXCESS \
	"SELECT s.stream_id, pg_catalog.max(s.dead_letter_id), COALESCE(pg_catalog.max(s.stream), '')" \
	" FROM (SELECT d.stream_id, d.stream, d.dead_letter_id, pg_catalog.sum(200 + COALESCE(pg_catalog.pg_column_size(d.value), 0)" \
	"  + COALESCE(pg_catalog.pg_column_size(d.key), 0) + COALESCE(pg_catalog.pg_column_size(d.headers), 0) + pg_catalog.pg_column_size(d.errors))" \
	"  OVER (PARTITION BY d.stream_id ORDER BY d.dead_letter_id DESC) AS bytes FROM profile_stream_internal.dead_letters d) s" \
	" WHERE s.bytes > $1 GROUP BY s.stream_id ORDER BY 2 LIMIT 1"

static PsPlan letters_size_plan = {
	"SELECT pg_catalog.pg_table_size('profile_stream_internal.dead_letters')", 0, {0}
};

static PsPlan cut_plan = {
	DELETE_LETTERS("x.stream_id IS NOT DISTINCT FROM $1 AND x.dead_letter_id <= $2", "$3"),
	3, {INT4OID, INT8OID, INT8OID}
};

void
ps_expired_measure(PsIdChunkSweep *sweep)
{
	bool		isnull;

	(void) ps_plan_run(&size_plan, NULL, NULL, SPI_OK_SELECT);
	sweep->npages = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	sweep->retention_us = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	SPI_freetuptable(SPI_tuptable);
}

uint64
ps_expired_forget(BlockNumber page, int npages, TimestampTz before)
{
	ItemPointerData from;
	ItemPointerData to;
	Datum		args[3];

	ItemPointerSet(&from, page, 0);
	ItemPointerSet(&to, page + npages, 0);
	args[0] = PointerGetDatum(&from);
	args[1] = PointerGetDatum(&to);
	args[2] = TimestampTzGetDatum(before);
	return ps_plan_run(&forget_plan, args, NULL, SPI_OK_DELETE);
}

uint64
ps_expired_discard(TimestampTz before, int limit)
{
	Datum		args[2] = {TimestampTzGetDatum(before), Int64GetDatum(limit)};

	return ps_plan_run(&discard_plan, args, NULL, SPI_OK_DELETE);
}

bool
ps_expired_find_excess(int64 bytes, PsLetterExcess *excess)
{
	static const Oid types[1] = {INT8OID};
	Datum		args[1] = {Int64GetDatum(bytes)};
	bool		isnull;

	/* the size of the files is a quick upper bound, which is seldom exceeded */
	if (ps_plan_number(&letters_size_plan, NULL) <= bytes ||
		ps_plan_run_once(EXCESS, 1, types, args, false) == 0)
		return false;
	excess->stream_id = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &excess->of_no_stream));
	excess->last_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	strlcpy(excess->stream, ps_plan_text(0, 3), sizeof(excess->stream));
	SPI_freetuptable(SPI_tuptable);
	return true;
}

uint64
ps_expired_cut(const PsLetterExcess *excess, int limit)
{
	Datum		args[3] = {Int32GetDatum(excess->stream_id), Int64GetDatum(excess->last_id), Int64GetDatum(limit)};
	char		nulls[3] = {excess->of_no_stream ? 'n' : ' ', ' ', ' '};

	return ps_plan_run(&cut_plan, args, nulls, SPI_OK_DELETE);
}
