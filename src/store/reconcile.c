/*
 * reconcile.c
 *	  The SQL of reconcile(). It compares the number of messages consumed with the sum of
 *	  their outcomes. It also compares the sums of sealed chunks with their samples or day
 *	  buckets, and tiles with the chunks that they cover.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "message.h"
#include "store/plan.h"
#include "store/reconcile.h"
#include "store/shard_fence.h"

#define NAME(counter, ...) "o." #counter

/* Sealed chunks of the profiles, or of the shards that are on this node. */
typedef struct CheckedChunks
{
	int64		chunks;
	int64		wrong;
} CheckedChunks;

static PsPlan chunks_plan = {
	"SELECT pg_catalog.count(*) AS chunks,"
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
	" AND x.metric = c.metric AND x.chunk_no > c.chunk_no - c.tile_chunks AND x.chunk_no <= c.chunk_no) x(from_at, to_at, count, sum, min, max)"
};

static PsPlan reconcile_plan = {
	"SELECT o.partition, o.consumed, " PS_COUNTERS(NAME, ", ") ", o.held,"
	" o.consumed - " PS_COUNTERS(NAME, " - ") " - o.held,"
	" $2, $3, COALESCE(n.topic, s.topic)"
	" FROM profile_stream_internal.stream_offsets o JOIN profile_stream.streams s ON s.stream_id = o.stream_id"
	" LEFT JOIN profile_stream_internal.stream_topics n ON n.stream_id = o.stream_id AND n.topic_no = o.topic_no"
	" WHERE o.stream_id = $1 ORDER BY o.topic_no, o.partition",
	3, {INT4OID, INT8OID, INT8OID}
};

static int64
check_chunks(void *arg)
{
	CheckedChunks *checked = arg;
	bool		isnull;

	(void) ps_plan_read(&chunks_plan, NULL);
	checked->chunks += DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	checked->wrong += DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return 0;
}

uint64
ps_reconcile_select(int stream_id)
{
	CheckedChunks checked = {0};
	Datum		args[3] = {Int32GetDatum(stream_id)};

	(void) ps_each_shard(check_chunks, &checked);
	args[1] = Int64GetDatum(checked.chunks);
	args[2] = Int64GetDatum(checked.wrong);
	return ps_plan_read(&reconcile_plan, args);
}
