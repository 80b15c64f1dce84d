/*
 * segment_counts.c
 *	  The rows of segment_counts: one for each day and segment, and one for all customers.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "settings.h"
#include "store/distributed.h"
#include "store/plan.h"
#include "store/segment_counts.h"
#include "utils/timestamp.h"

/* the first day of a database without streams never ends: there nobody looks */
static PsPlan due_plan = {
	"SELECT COALESCE((SELECT c.day FROM profile_stream.segment_counts c ORDER BY c.day DESC LIMIT 1),"
	" (SELECT (pg_catalog.min(s.created_at) AT TIME ZONE 'UTC')::pg_catalog.date FROM profile_stream.streams s))"
	" < (pg_catalog.now() AT TIME ZONE 'UTC')::pg_catalog.date",
	0, {InvalidOid}
};

static const char discard_sql[] =
"DELETE FROM profile_stream.segment_counts c"
" WHERE c.day = (pg_catalog.now() AT TIME ZONE 'UTC')::pg_catalog.date OR c.counted_at < $1";

static const char count_sql[] =
"WITH counted AS (SELECT p.segment, pg_catalog.count(*) AS customers FROM profile_stream.profiles p GROUP BY p.segment)"
" INSERT INTO profile_stream.segment_counts (day, kind, segment, customers, counted_at)"
" SELECT (pg_catalog.now() AT TIME ZONE 'UTC')::pg_catalog.date, n.kind, n.segment, n.customers, pg_catalog.now() FROM ("
"SELECT 'all' AS kind, 'all' AS segment, COALESCE(pg_catalog.sum(c.customers), 0)::pg_catalog.int8 AS customers FROM counted c"
" UNION ALL SELECT CASE WHEN c.segment IS NULL THEN 'unscored' ELSE 'score' END, COALESCE(c.segment, 'unscored'), c.customers FROM counted c"
" UNION ALL SELECT 'rule', s.name, (SELECT pg_catalog.count(*) FROM profile_stream.segment_members m WHERE m.segment = s.name)"
" FROM profile_stream_internal.segments s) n";

bool
ps_segment_counts_due(void)
{
	Datum		due;
	bool		is_null;

	if (ps_distributed())
		return false;			/* no node sees all customers */
	(void) ps_plan_read(&due_plan, NULL);
	due = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &is_null);
	return !is_null && DatumGetBool(due);
}

void
ps_segment_counts_write(void)
{
	static const Oid types[1] = {TIMESTAMPTZOID};
	TimestampTz kept_from = ps_segment_count_retention_s == 0 ? DT_NOBEGIN : GetCurrentTimestamp() - ps_segment_count_retention_s * USECS_PER_SEC;
	Datum		args[1] = {TimestampTzGetDatum(kept_from)};

	(void) ps_plan_run_once(discard_sql, 1, types, args, false);
	(void) ps_plan_run_once(count_sql, 0, NULL, NULL, false);
}
