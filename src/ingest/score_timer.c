/*
 * score_timer.c
 *	  Starts the scorer when a refresh of scores and segments is due, or their count for a
 *	  new day. The first worker of each stream looks for that, so that it needs no process
 *	  of its own.
 */
#include "postgres.h"

#include "clock.h"
#include "ingest/score_timer.h"
#include "miscadmin.h"
#include "process/bgworker.h"
#include "process/lease.h"
#include "settings.h"
#include "store/rebuild_schema.h"
#include "store/score_catalog.h"
#include "store/segment_counts.h"
#include "store/xact.h"

#define LOOK_S 10				/* it looks at least so often whether one is due */

static bool
register_scorer(void)
{
	PsProcess	process = {MyDatabaseId, GetUserId()};
	BackgroundWorker worker;

	ps_bgworker_describe(&worker, "profile_stream scorer", "profile_stream_scorer_main");
	memcpy(worker.bgw_extra, &process, sizeof(process));
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

void
ps_score_timer(void)
{
	static PsMoment next_look = 0;
	static bool complained = false;
	PsMoment	now = ps_clock_now();
	bool		due;

	if (ps_rebuild_schema_used() || now < next_look)
		return;
	next_look = ps_moment_plus(now, (ps_score_interval_s == 0 ? LOOK_S : Min(ps_score_interval_s, LOOK_S)) * INT64CONST(1000));
	if (!ps_lease_take(PS_LEASE_REFRESH))
		return;
	ps_lease_release(PS_LEASE_REFRESH);
	ps_begin();
	due = (ps_score_interval_s > 0 && ps_refresh_is_due()) || ps_segment_counts_due();
	ps_commit();
	if (!due)
		return;
	if (register_scorer())
		complained = false;
	else if (!complained)
	{
		complained = true;
		ereport(WARNING,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no background worker slot is free to refresh scores, or to count segments"),
				 errhint("It is tried again. Raise max_worker_processes and restart the server when it stays so.")));
	}
}
