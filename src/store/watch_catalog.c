/*
 * watch_catalog.c
 *	  Reads which columns and attributes streams watch. Whatever changes a stream sends an
 *	  invalidation message, after which each process reads them again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "store/plan.h"
#include "store/rebuild_schema.h"
#include "store/table_watch.h"
#include "store/watch_catalog.h"

static PsPlan watchers_plan = {
	.sql = "SELECT s.stream_id, s.name, s.notify, s.notify_channel, w.name FROM profile_stream.streams s"
	" CROSS JOIN LATERAL pg_catalog.unnest(s.watch) AS w(name) WHERE w.name IS NOT NULL ORDER BY s.stream_id",
	.fixed_schema = true
};

static PsPlan redis_ttl_plan = {
	.sql = "SELECT COALESCE(EXTRACT(epoch FROM pg_catalog.min(s.redis_ttl)), 0)::int8 FROM profile_stream.streams s"
	" JOIN profile_stream_internal.stream_status t ON t.stream_id = s.stream_id AND t.enabled AND t.database = $1 WHERE s.redis IS NOT NULL",
	.nargs = 1,.argtypes = {OIDOID},.fixed_schema = true
};

static const void *
watch_catalog_read(void)
{
	Datum		args[1] = {ObjectIdGetDatum(MyDatabaseId)};
	PsWatches  *watches = palloc0(sizeof(PsWatches));
	uint64		n = ps_plan_read(&watchers_plan, NULL);

	watches->watchers = palloc0(Max(n, 1) * sizeof(PsWatcher));
	for (uint64 i = 0; i < n; i++)
	{
		int			stream_id = atoi(ps_plan_text(i, 1));
		PsWatcher  *watcher = &watches->watchers[watches->n];

		if (watches->n > 0 && watcher[-1].stream_id == stream_id)
			watcher--;
		else
			watches->n++;
		watcher->stream_id = stream_id;
		watcher->stream = ps_plan_text(i, 2);
		watcher->notify = ps_plan_text(i, 3);
		watcher->notify_channel = ps_plan_text(i, 4);
		watcher->names = bms_add_member(watcher->names, ps_watch_add(&watches->names, ps_plan_text(i, 5)));
	}
	watches->redis_ttl_s = ps_plan_number(&redis_ttl_plan, args);
	return watches;
}

static const char *const tables[] = {"stream_status"};
static PsTableWatch watch = {tables, lengthof(tables), watch_catalog_read, true};

static const PsWatches *
watches_load(void)
{
	if (watch.stale)
		ps_table_watch_read(&watch);
	return watch.content;
}

const PsWatches *
ps_watches_get(void)
{
	const PsWatches *watches;

	if (ps_rebuild_schema_used())
		return NULL;
	watches = watches_load();
	return watches->n > 0 ? watches : NULL;
}

int64
ps_watches_redis_ttl_s(void)
{
	return watches_load()->redis_ttl_s;
}

bool
ps_watches_tell(const PsWatches *watches, int stream_id, const Bitmapset * changed)
{
	for (int i = 0; watches != NULL && i < watches->n; i++)
		if (watches->watchers[i].stream_id == stream_id)
			return bms_overlap(watches->watchers[i].names, changed);
	return true;
}
