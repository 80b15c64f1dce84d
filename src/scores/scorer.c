/*
 * scorer.c
 *	  The background worker that refreshes scores and segments every
 *	  profile_stream.score_interval, and counts the customers of segments once a day. A
 *	  worker of a stream starts it when one of these is due (ingest/score_timer.c). It has
 *	  the rights of that stream's owner, and ends when it is done.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "process/bgworker.h"
#include "process/lease.h"
#include "scores/refresh.h"
#include "settings.h"
#include "storage/ipc.h"
#include "store/lock_wait.h"
#include "store/locks.h"
#include "store/owner.h"
#include "store/rebuild_schema.h"
#include "store/segment_counts.h"
#include "store/xact.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define BATCH 1000

PGDLLEXPORT void profile_stream_scorer_main(Datum arg);

static bool was_due = false;
static bool had_failed = false;
static bool count_was_due = false;

/* Between batches: ends the process when the settings no longer want a refresh. */
static void
scorer_between(void)
{
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	if (!ps_enabled || (was_due && ps_score_interval_s == 0))
		proc_exit(0);
}

/* Finds out what is still due, and whether the last one of the scores failed. */
static void
scorer_look(void)
{
	PsRefresh	refresh = {.batch = BATCH,.between = scorer_between};

	if (!ps_refresh_start(&refresh))
		return;
	(void) ps_refresh_begin_batch(&refresh);
	ps_check_may_run(GetUserId());
	was_due = ps_score_interval_s > 0 && ps_refresh_is_due();
	count_was_due = ps_segment_counts_due();
	had_failed = ps_refresh_has_failed();
	ps_refresh_commit_batch(&refresh, NULL, NULL);
	ps_refresh_finish();
}

/* Refreshes the scores, unless another refresh runs. In a non-atomic SPI connection, as the next function. */
static void
refresh_scores(void)
{
	PsRefresh	refresh = {.batch = BATCH,.between = scorer_between};

	if (!ps_refresh_start(&refresh))
		return;
	refresh.as_of = GetCurrentTimestamp();
	/* profiles that an interrupted refresh has just scored need no new score; those of the refresh before do */
	refresh.before = refresh.as_of - ps_score_interval_s * USECS_PER_SEC / 2;
	pgstat_report_activity(STATE_RUNNING, "refreshing scores");
	ps_scores_refresh(&refresh);
	ps_refresh_finish();
}

/* Refreshes the segments, also when the scores failed: their code belongs to other users. */
static void
refresh_segments(void)
{
	PsRefresh	refresh = {.batch = BATCH,.between = scorer_between};
	PsSegmentsRefresh all = {0};

	if (!ps_refresh_start(&refresh))
		return;
	pgstat_report_activity(STATE_RUNNING, "refreshing segments");
	ps_segments_refresh(&refresh, NULL, &all);
	ps_refresh_finish();
}

/* For a day without a refresh, which counts by itself. */
static void
count_segments(void)
{
	PsRefresh	refresh = {.batch = BATCH,.between = scorer_between};

	if (!ps_refresh_start(&refresh))
		return;
	pgstat_report_activity(STATE_RUNNING, "counting segments");
	ps_refresh_count_segments(&refresh, false);
	ps_refresh_finish();
}

/* Shows in stat_score_refresh the error that ended the refresh. */
static void
scorer_note_failure(const char *error)
{
	ps_transaction_start();
	if (OidIsValid(ps_own_schema(true)))
	{
		ps_spi_begin();
		ps_refresh_fail(error);
		ps_spi_end();
	}
	CommitTransactionCommand();
}

/* Does one part of the work. An error ends only this part. */
static void
scorer_run(void (*part) (void))
{
	PG_TRY();
	{
		ps_transaction_start();
		ps_lock_extension();
		if (OidIsValid(ps_own_schema(true)))
		{
			ps_bgworker_end_unless_matched();
			SPI_connect_ext(SPI_OPT_NONATOMIC);
			part();
			SPI_finish();
		}
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(PortalContext);
		error = CopyErrorData();
		EmitErrorReport();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
		(void) ps_lock_wait_explain(error);
		scorer_note_failure(error->message);
	}
	PG_END_TRY();
}

void
profile_stream_scorer_main(Datum arg)
{
	PsProcess	process = ps_bgworker_process();

	if (!ps_bgworker_connect(process.database, process.owner))
		proc_exit(0);
	ps_bgworker_name("scorer", NULL);
	ps_lock_wait_bound_process();
	/* in a session this is the context of CALL, which lives longer than the procedure's transactions */
	PortalContext = AllocSetContextCreate(TopMemoryContext, "profile_stream scorer", ALLOCSET_DEFAULT_SIZES);
	scorer_run(scorer_look);
	if (!was_due)
	{
		if (count_was_due)
			scorer_run(count_segments);
		proc_exit(0);
	}
	/* a part that failed comes last, because it may end this process again */
	scorer_run(had_failed ? refresh_segments : refresh_scores);
	scorer_run(had_failed ? refresh_scores : refresh_segments);
	proc_exit(0);
}
