/*
 * reconcile.c
 *	  The SQL of reconcile(): compares the number of messages consumed with the sum
 *	  of their outcomes, the sums of sealed chunks with their samples or day buckets,
 *	  and tiles with the chunks that they cover.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "message.h"
#include "store/plan.h"
#include "store/reconcile.h"

#define NAME(counter, ...) "o." #counter

static PsPlan reconcile_plan = {
	"WITH checked AS (SELECT pg_catalog.count(*) AS chunks,"
	" pg_catalog.count(*) FILTER (WHERE (c.count, c.sum) IS DISTINCT FROM (t.count, t.sum)"
	" OR (c.tile_from_at, c.tile_to_at, c.tile_count, c.tile_sum, c.tile_min, c.tile_max) IS DISTINCT FROM"
	" (x.from_at, x.to_at, x.count, x.sum, x.min, x.max)) AS wrong"
	" FROM profile_stream_internal.window_chunks c CROSS JOIN LATERAL ("
	" SELECT COALESCE(pg_catalog.sum(p.count), 0)::int8 AS count, COALESCE(pg_catalog.sum(p.sum), 0) AS sum FROM ("
	" SELECT 1::int8 AS count, s.value AS sum FROM profile_stream_internal.chunk_samples(c.samples) s"
	" UNION ALL SELECT d.count, d.sum FROM pg_catalog.unnest(c.days) d) p) t"
	/* nothing, and so nulls, for a chunk without a tile */
	" CROSS JOIN LATERAL (SELECT pg_catalog.min(x.from_at), pg_catalog.max(x.to_at), pg_catalog.sum(x.count)::int8, pg_catalog.sum(x.sum),"
	" pg_catalog.min(x.min), pg_catalog.max(x.max) FROM profile_stream_internal.window_chunks x WHERE x.customer_id = c.customer_id"
	" AND x.metric = c.metric AND x.chunk_no > c.chunk_no - c.tile_chunks AND x.chunk_no <= c.chunk_no) x(from_at, to_at, count, sum, min, max))"
	" SELECT o.partition, o.consumed, " PS_COUNTERS(NAME, ", ") ", o.held,"
	" o.consumed - " PS_COUNTERS(NAME, " - ") " - o.held,"
	" k.chunks, k.wrong, COALESCE(n.topic, s.topic)"
	" FROM profile_stream_internal.stream_offsets o JOIN profile_stream.streams s ON s.stream_id = o.stream_id"
	" LEFT JOIN profile_stream_internal.stream_topics n ON n.stream_id = o.stream_id AND n.topic_no = o.topic_no"
	" CROSS JOIN checked k WHERE o.stream_id = $1 ORDER BY o.topic_no, o.partition",
	1, {INT4OID}
};

uint64
ps_reconcile_select(int stream_id)
{
	Datum		args[1] = {Int32GetDatum(stream_id)};

	return ps_plan_read(&reconcile_plan, args);
}
