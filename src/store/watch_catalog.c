/*
 * watch_catalog.c
 *	  Reads which columns and attributes streams watch. Whatever changes a stream sends an
 *	  invalidation message, after which each process reads them again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "store/owner.h"
#include "store/plan.h"
#include "store/rebuild_schema.h"
#include "store/relation_changes.h"
#include "store/watch_catalog.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

static PsPlan watchers_plan = {
	.sql = "SELECT s.stream_id, s.name, s.notify, s.notify_channel, w.name FROM profile_stream.streams s"
	" CROSS JOIN LATERAL pg_catalog.unnest(s.watch) AS w(name) ORDER BY s.stream_id",
	.fixed_schema = true
};

static PsPlan redis_ttl_plan = {
	.sql = "SELECT COALESCE(EXTRACT(epoch FROM pg_catalog.min(s.redis_ttl)), 0)::int8 FROM profile_stream.streams s"
	" JOIN profile_stream_internal.stream_status t ON t.stream_id = s.stream_id AND t.enabled AND t.database = $1 WHERE s.redis IS NOT NULL",
	.nargs = 1,.argtypes = {OIDOID},.fixed_schema = true
};

static PsWatches *watch_loaded = NULL;	/* NULL: none */
static MemoryContext watch_context = NULL;
static int64 watch_redis_ttl_s = 0;
static Oid	watch_relid = InvalidOid;
static bool watch_is_stale = true;

static void
watch_relation_changed(Oid relid)
{
	watch_is_stale |= relid == watch_relid || relid == InvalidOid;
}

/* Makes the watchers of the rows that were found, one for each name. */
static PsWatches *
watch_read_rows(uint64 n)
{
	PsWatches  *watches = palloc0(sizeof(PsWatches));

	watches->watchers = palloc0(n * sizeof(PsWatcher));
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
	return watches;
}

static void
watch_load(void)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum		args[1] = {ObjectIdGetDatum(MyDatabaseId)};
	uint64		n;

	ps_on_relation_change(watch_relation_changed);
	if (watch_context == NULL)
		watch_context = AllocSetContextCreate(TopMemoryContext, "profile_stream watches", ALLOCSET_SMALL_SIZES);
	watch_loaded = NULL;
	MemoryContextReset(watch_context);
	watch_relid = ps_own_table(false, "stream_status");
	watch_is_stale = false;		/* set before reading: a change from here on must make them stale again */
	PG_TRY();
	{
		watch_redis_ttl_s = ps_plan_number(&redis_ttl_plan, args);
		n = ps_plan_run(&watchers_plan, NULL, NULL, SPI_OK_SELECT);
		MemoryContextSwitchTo(watch_context);
		if (n > 0)
			watch_loaded = watch_read_rows(n);
		MemoryContextSwitchTo(caller);
		SPI_freetuptable(SPI_tuptable);
	}
	PG_CATCH();
	{
		watch_is_stale = true;
		PG_RE_THROW();
	}
	PG_END_TRY();
}

const PsWatches *
ps_watches_get(void)
{
	if (ps_rebuild_schema_used())
		return NULL;
	if (watch_is_stale)
		watch_load();
	return watch_loaded;
}

int64
ps_watches_redis_ttl_s(void)
{
	if (watch_is_stale)
		watch_load();
	return watch_redis_ttl_s;
}

bool
ps_watches_tell(const PsWatches *watches, int stream_id, const Bitmapset * changed)
{
	for (int i = 0; watches != NULL && i < watches->n; i++)
		if (watches->watchers[i].stream_id == stream_id)
			return bms_overlap(watches->watchers[i].names, changed);
	return true;
}
