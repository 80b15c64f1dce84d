/*
 * table_watch.c
 *	  Listens to the invalidations of relations. Whatever changes a watched table sends
 *	  one.
 */
#include "postgres.h"

#include "access/xact.h"
#include "store/owner.h"
#include "store/table_watch.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

static void
table_watch_relation_changed(Datum arg, Oid relid)
{
	PsTableWatch *watch = (PsTableWatch *) DatumGetPointer(arg);

	watch->stale |= relid == InvalidOid;
	for (int i = 0; i < watch->ntables; i++)
		watch->stale |= relid == watch->relids[i];
}

static void
table_watch_transaction_ended(XactEvent event, void *arg)
{
	PsTableWatch *watch = arg;

	watch->stale |= watch->stale_at_end;
	watch->stale_at_end = false;
}

void
ps_table_watch_begin(PsTableWatch *watch)
{
	Assert(watch->ntables <= PS_MAX_WATCHED_TABLES);
	if (!watch->registered)
	{
		CacheRegisterRelcacheCallback(table_watch_relation_changed, PointerGetDatum(watch));
		RegisterXactCallback(table_watch_transaction_ended, watch);
	}
	watch->registered = true;
	for (int i = 0; i < watch->ntables; i++)
		watch->relids[i] = ps_own_table(false, watch->tables[i]);
}

void
ps_table_watch_push_snapshot(PsTableWatch *watch)
{
	watch->stale_at_end = IsInParallelMode();
	PushActiveSnapshot(watch->stale_at_end ? GetActiveSnapshot() : GetLatestSnapshot());
}
