/*
 * rebuild_diff.c
 *	  Compares the profiles with the rebuilt ones, for rebuild_diff().
 *
 *	  Whole rows are compared first, and then the fields of those that differ. A window
 *	  is compared by its results, not by its bytes: the current values of metrics, and
 *	  count and sum of the whole history. The bytes depend on where chunks end, and so
 *	  on when prune_metrics() ran.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/profile.h"
#include "settings.h"
#include "store/plan.h"
#include "store/rebuild_catalog.h"
#include "store/rebuild_schema.h"
#include "utils/timestamp.h"

#define OLD(column, kind, access, initial, member) "o." #column
#define NEW(column, kind, access, initial, member) "n." #column
#define PAIR(column, kind, access, initial, member) "'" #column "', p." #column

#define METRIC(schema, name) \
	", '" name "', " schema ".window_value(p.customer_id, p.window_state, '" name "', $2)"

#define HISTORY(parts, field, metric) \
	", '" field "', (SELECT pg_catalog.jsonb_build_object('count', COALESCE(pg_catalog.sum(h.count), 0)," \
	" 'sum', COALESCE(pg_catalog.sum(h.sum), 0)) FROM (" \
	" SELECT pg_catalog.count(*) AS count, pg_catalog.sum(w.value) AS sum" \
	" FROM profile_stream_internal.window_samples(p.window_state, '" metric "') w" \
	" UNION ALL SELECT c.count, c.sum FROM " parts ".window_chunks c" \
	" WHERE c.customer_id = p.customer_id AND c.metric = profile_stream_internal.metric_series('" metric "')) h)"

/* the values of users' metrics and the history of their series, each as a field of its own */
#define CREATED_METRICS(parts) \
	" || COALESCE((SELECT pg_catalog.jsonb_object_agg('metrics.' || m.key, m.value) FROM" \
	" pg_catalog.jsonb_each(" parts ".metric_values(p.customer_id, p.window_state, $2)) m), '{}')" \
	" || COALESCE((SELECT pg_catalog.jsonb_object_agg(s.name || '_history'," \
	" (SELECT pg_catalog.jsonb_build_object('count', COALESCE(pg_catalog.sum(h.count), 0), 'sum', COALESCE(pg_catalog.sum(h.sum), 0))" \
	" FROM (SELECT pg_catalog.count(*) AS count, pg_catalog.sum(w.value) AS sum" \
	" FROM profile_stream_internal.window_state_samples(p.window_state) w WHERE w.series = s.name" \
	" UNION ALL SELECT c.count, c.sum FROM " parts ".window_chunks c" \
	" WHERE c.customer_id = p.customer_id AND c.metric = s.name) h))" \
	" FROM (SELECT 'series_' || x.series_id AS name FROM profile_stream_internal.metric_series x WHERE NOT x.is_lifetime) s), '{}')"

/* the document of one customer that is compared; schema has the profiles, parts all other tables */
#define DOCUMENT(schema, parts) \
	"(SELECT pg_catalog.jsonb_build_object(" PS_COMPARED_COLUMNS(PAIR, ", ") \
	METRIC(schema, "transaction_count_30d") METRIC(schema, "total_transaction_value_30d") \
	METRIC(schema, "login_count_7d") METRIC(schema, "support_ticket_count_90d") \
	HISTORY(parts, "transaction_history", "transaction_count_30d") \
	HISTORY(parts, "login_history", "login_count_7d") \
	HISTORY(parts, "support_ticket_history", "support_ticket_count_90d") ") - 'window_state'" CREATED_METRICS(parts) \
	" FROM " schema ".materialized_profiles p WHERE p.customer_id = c.customer_id)"

static const char diff_sql[] =
"WITH c AS MATERIALIZED ("
" SELECT COALESCE(o.customer_id, n.customer_id) AS customer_id"
" FROM profile_stream.materialized_profiles o"
" FULL JOIN " PS_REBUILD_SCHEMA ".materialized_profiles n ON n.customer_id = o.customer_id"
" WHERE o.customer_id IS NULL OR n.customer_id IS NULL OR ROW(" PS_COMPARED_COLUMNS(OLD, ", ") ")"
" IS DISTINCT FROM ROW(" PS_COMPARED_COLUMNS(NEW, ", ") ")"
" UNION SELECT COALESCE(o.customer_id, n.customer_id)"
" FROM profile_stream_internal.window_chunks o FULL JOIN " PS_REBUILD_SCHEMA ".window_chunks n"
" ON n.customer_id = o.customer_id AND n.metric = o.metric AND n.to_at = o.to_at AND n.chunk_no = o.chunk_no"
" WHERE ROW(o.count, o.sum, o.samples) IS DISTINCT FROM ROW(n.count, n.sum, n.samples)"
" ORDER BY 1)"
" SELECT c.customer_id, CASE WHEN d.rebuilt IS NULL THEN 'missing' WHEN d.now IS NULL THEN 'new' ELSE 'changed' END,"
" f.fields FROM c"
" CROSS JOIN LATERAL (SELECT " DOCUMENT(PS_SCHEMA, PS_INTERNAL_SCHEMA) " AS now, " DOCUMENT(PS_REBUILD_SCHEMA, PS_REBUILD_SCHEMA) " AS rebuilt OFFSET 0) d"
" CROSS JOIN LATERAL (SELECT pg_catalog.jsonb_object_agg(k.key, pg_catalog.jsonb_build_array(d.now -> k.key, d.rebuilt -> k.key)) AS fields"
" FROM pg_catalog.jsonb_object_keys(COALESCE(d.now, d.rebuilt)) AS k(key)"
" WHERE d.now -> k.key IS DISTINCT FROM d.rebuilt -> k.key) f"
" WHERE f.fields IS NOT NULL LIMIT $1";

uint64
ps_rebuild_select_diff(int max_rows)
{
	static const Oid types[2] = {INT4OID, TIMESTAMPTZOID};
	Datum		args[2] = {Int32GetDatum(max_rows), TimestampTzGetDatum(GetCurrentTransactionStartTimestamp())};

	return ps_plan_run_once(diff_sql, 2, types, args, true);
}
