/*
 * history_catalog.c
 *	  What is tracked, kept in memory and loaded again after a change. It is no part of the
 *	  rules, which whoever applies holds from before it has the locks: a change that was
 *	  committed before the locks were taken must count, or rows would be missing in the history.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "store/history_catalog.h"
#include "store/locks.h"
#include "store/owner.h"
#include "store/plan.h"
#include "store/table_watch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static const char *const tables[] = {"history_columns", "history_settings"};

static const PsTracked nothing = {0};
static const PsTracked *tracked = &nothing;
static MemoryContext tracked_context = NULL;
static PsTableWatch watch = {tables, lengthof(tables), true};

static PsPlan load_plan = {
	.sql = "SELECT c.name, c.since, (EXTRACT(epoch FROM s.retention) * 1000000)::int8"
	" FROM profile_stream_internal.history_columns c CROSS JOIN profile_stream_internal.history_settings s ORDER BY c.name",
	.fixed_schema = true
};

static PsPlan shorten_plan = {
	.sql = "UPDATE profile_stream_internal.history_columns c SET since = GREATEST(c.since, pg_catalog.clock_timestamp() - s.retention)"
	" FROM profile_stream_internal.history_settings s WHERE s.retention < $1",
	.nargs = 1,.argtypes = {INTERVALOID},.fixed_schema = true
};

static PsPlan retention_plan = {
	.sql = "INSERT INTO profile_stream_internal.history_settings AS s (retention) VALUES ($1)"
	" ON CONFLICT (is_only) DO UPDATE SET retention = excluded.retention",
	.nargs = 1,.argtypes = {INTERVALOID},.fixed_schema = true
};

static PsPlan add_plan = {
	.sql = "INSERT INTO profile_stream_internal.history_columns (name, source, tracked_at, since)"
	" VALUES ($1, $2, pg_catalog.clock_timestamp(), $3) ON CONFLICT (name) DO NOTHING",
	.nargs = 3,.argtypes = {TEXTOID, TEXTOID, TIMESTAMPTZOID},.fixed_schema = true
};

static PsPlan remove_plan = {
	.sql = "DELETE FROM profile_stream_internal.history_columns c WHERE c.name = $1",
	.nargs = 1,.argtypes = {TEXTOID},.fixed_schema = true
};

static PsPlan any_plan = {
	.sql = "SELECT FROM profile_stream.materialized_profiles LIMIT 1",.fixed_schema = true
};

/* Reads the tables, with the owner's rights: a caller may read profiles without the right to read these. */
static PsTracked *
read_tables(MemoryContext context)
{
	PsSavedUser saved = ps_switch_to_owner();
	uint64		n = ps_plan_read(&load_plan, NULL);
	MemoryContext caller = MemoryContextSwitchTo(context);
	PsTracked  *loaded = palloc0(sizeof(PsTracked));
	bool		isnull;

	loaded->names = palloc(Max(n, 1) * sizeof(PsTrackedName));
	for (uint64 i = 0; i < n; i++)
	{
		PsTrackedName *name = &loaded->names[loaded->nnames];

		if (ps_tracked_resolve(ps_plan_text(i, 1), name) != NULL)
			continue;			/* a later version may refuse what an older one tracked */
		name->since = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
		loaded->retention_us = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &isnull));
		loaded->nnames++;
	}
	ps_tracked_finish(loaded);
	MemoryContextSwitchTo(caller);
	ps_restore_user(saved);
	return loaded;
}

static void
history_catalog_load(void)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "profile_stream history", ALLOCSET_SMALL_SIZES);
	PsTracked  *loaded;

	watch.stale = false;		/* set before reading: a change from here on must make it stale again */
	PG_TRY();
	{
		ps_table_watch_begin(&watch);
		SPI_connect();
		ps_table_watch_push_snapshot(&watch);
		loaded = read_tables(context);
		PopActiveSnapshot();
		SPI_finish();
	}
	PG_CATCH();
	{
		watch.stale = true;
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	if (tracked_context != NULL)
		MemoryContextSetParent(tracked_context, TopTransactionContext); /* callers may still use it */
	MemoryContextSetParent(context, TopMemoryContext);
	tracked_context = context;
	tracked = loaded;
}

const PsTracked *
ps_history_tracked(void)
{
	if (watch.stale)
		history_catalog_load();
	return tracked;
}

void
ps_history_lock(void)
{
	ps_lock_copy(false, ShareRowExclusiveLock);
	ps_lock_copy(true, ShareRowExclusiveLock);
}

void
ps_history_track(const PsTrackedName *names, int n, Interval *retention)
{
	Datum		args[3] = {IntervalPGetDatum(retention)};

	/* what is older than it was kept until now is gone */
	(void) ps_plan_run(&shorten_plan, args, NULL, SPI_OK_UPDATE);
	(void) ps_plan_run(&retention_plan, args, NULL, SPI_OK_INSERT);
	for (int i = 0; i < n; i++)
	{
		args[0] = CStringGetTextDatum(names[i].name);
		args[1] = CStringGetTextDatum(names[i].kind == PS_TRACKED_SCORE ? "score" : "event");
		args[2] = TimestampTzGetDatum(names[i].since);
		(void) ps_plan_run(&add_plan, args, NULL, SPI_OK_INSERT);
	}
}

bool
ps_history_untrack(const char *name)
{
	Datum		args[1] = {CStringGetTextDatum(name)};

	return ps_plan_run(&remove_plan, args, NULL, SPI_OK_DELETE) > 0;
}

bool
ps_history_any_profile(void)
{
	return ps_plan_run(&any_plan, NULL, NULL, SPI_OK_SELECT) > 0;
}
