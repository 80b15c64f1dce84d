/*
 * segment_counts.c
 *	  The rows that segment_counts adds up: of each shard one for each day and segment, and
 *	  one for all of its customers.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "settings.h"
#include "store/plan.h"
#include "store/segment_counts.h"
#include "store/shard_fence.h"
#include "store/shard_names.h"
#include "store/shards.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* the first day of a database without streams never ends: there nobody looks */
static PsPlan due_plan = {
	"SELECT COALESCE((SELECT c.day FROM profile_stream_internal.segment_day_counts c WHERE c.slot = $1 ORDER BY c.day DESC LIMIT 1),"
	" (SELECT (pg_catalog.min(s.created_at) AT TIME ZONE 'UTC')::pg_catalog.date FROM profile_stream.streams s))"
	" < (pg_catalog.now() AT TIME ZONE 'UTC')::pg_catalog.date",
	1, {TEXTOID}
};

static const char discard_sql[] =
"DELETE FROM profile_stream_internal.segment_day_counts c"
" WHERE c.day = (pg_catalog.now() AT TIME ZONE 'UTC')::pg_catalog.date OR c.counted_at < $1";

static const char count_sql[] =
"WITH counted AS (SELECT profiles.segment, pg_catalog.count(*) AS customers FROM %s GROUP BY profiles.segment)"
" INSERT INTO profile_stream_internal.segment_day_counts (slot, day, kind, segment, customers, counted_at, shards)"
" SELECT $1, (pg_catalog.now() AT TIME ZONE 'UTC')::pg_catalog.date, n.kind, n.segment, n.customers, pg_catalog.now(), $2 FROM ("
"SELECT 'all' AS kind, 'all' AS segment, COALESCE(pg_catalog.sum(c.customers), 0)::pg_catalog.int8 AS customers FROM counted c"
" UNION ALL SELECT CASE WHEN c.segment IS NULL THEN 'unscored' ELSE 'score' END, COALESCE(c.segment, 'unscored'), c.customers FROM counted c"
" UNION ALL SELECT 'rule', s.name, (SELECT pg_catalog.count(*) FROM profile_stream.segment_members m WHERE m.segment = s.name)"
" FROM profile_stream_internal.segments s) n";

/* Under which slot the rows of the shard in use are. */
static Datum
counted_slot(void)
{
	return CStringGetTextDatum(ps_shards_used() == PS_NO_SHARD ? "" : ps_shards_slot(ps_shards_used()));
}

static int64
segment_counts_find_due(void *arg)
{
	Datum		args[1] = {counted_slot()};
	Datum		due;
	bool		is_null;

	(void) ps_plan_read(&due_plan, args);
	due = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &is_null);
	return !is_null && DatumGetBool(due);
}

bool
ps_segment_counts_due(void)
{
	return ps_each_shard(segment_counts_find_due, NULL) > 0;
}

static int64
segment_counts_write_shard(void *arg)
{
	static const Oid types[1] = {TIMESTAMPTZOID};
	static const Oid count_types[2] = {TEXTOID, INT4OID};
	Datum		count_args[2] = {counted_slot(), Int32GetDatum(ps_shards_used() == PS_NO_SHARD ? 1 : ps_shards_count())};

	(void) ps_plan_run_once(discard_sql, 1, types, arg, false);
	return ps_plan_run_once(psprintf(count_sql, ps_shard_names_profiles()), 2, count_types, count_args, false);
}

void
ps_segment_counts_write(void)
{
	TimestampTz kept_from = ps_segment_count_retention_s == 0 ? DT_NOBEGIN : GetCurrentTimestamp() - ps_segment_count_retention_s * USECS_PER_SEC;
	Datum		args[1] = {TimestampTzGetDatum(kept_from)};

	(void) ps_each_shard(segment_counts_write_shard, args);
}
