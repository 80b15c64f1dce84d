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
#include "utils/timestamp.h"

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

static const void *
history_catalog_read(void)
{
	uint64		n = ps_plan_read(&load_plan, NULL);
	PsTracked  *tracked = palloc0(sizeof(PsTracked));
	bool		isnull;

	tracked->names = palloc(Max(n, 1) * sizeof(PsTrackedName));
	for (uint64 i = 0; i < n; i++)
	{
		PsTrackedName *name = &tracked->names[tracked->nnames];

		if (ps_tracked_resolve(ps_plan_text(i, 1), name) != NULL)
			continue;			/* a later version may refuse what an older one tracked */
		name->since = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
		tracked->retention_us = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &isnull));
		tracked->nnames++;
	}
	ps_tracked_finish(tracked);
	return tracked;
}

static const char *const tables[] = {"history_columns", "history_settings"};
static PsTableWatch watch = {tables, lengthof(tables), history_catalog_read, true};

const PsTracked *
ps_history_tracked(void)
{
	if (watch.stale)
		ps_table_watch_read(&watch);
	return watch.content;
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
