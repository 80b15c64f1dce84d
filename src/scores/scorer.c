/*
 * scorer.c
 *	  The background worker that refreshes scores and segments at
 *	  profile_stream.score_interval, beside the streams. ingest/score_timer.c
 *	  starts it when one is due; it ends when it is done, and runs with the rights of
 *	  the owner of the stream whose worker started it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "process/lease.h"
#include "scores/refresh.h"
#include "settings.h"
#include "storage/ipc.h"
#include "store/lock_wait.h"
#include "store/owner.h"
#include "store/rebuild_schema.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define BATCH 1000

PGDLLEXPORT void profile_stream_scorer_main(Datum arg);

static bool was_due = false;
static bool had_failed = false;

/* Between batches: ends the process when it shall not run any more. */
static void
scorer_between(void)
{
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	if (!ps_enabled || ps_score_interval_s == 0)
		proc_exit(0);
}

/* Looks whether somebody else has done it, and whether the scores failed then. */
static void
scorer_look(void)
{
	PsRefresh	refresh = {.batch = BATCH,.between = scorer_between};

	if (!ps_refresh_start(&refresh))
		return;
	ps_refresh_begin_batch(&refresh);
	ps_check_may_run(GetUserId());
	was_due = ps_refresh_is_due();
	had_failed = ps_refresh_has_failed();
	ps_refresh_commit_batch(&refresh, NULL, NULL);
	ps_refresh_finish();
}

/* Scores, unless somebody else does it; in a non-atomic SPI connection, as the others. */
static void
refresh_scores(void)
{
	PsRefresh	refresh = {.batch = BATCH,.between = scorer_between};

	if (!ps_refresh_start(&refresh))
		return;
	refresh.as_of = GetCurrentTimestamp();
	/* what an interrupted run has done is left alone, what the one before did at its end is not */
	refresh.before = refresh.as_of - ps_score_interval_s * USECS_PER_SEC / 2;
	pgstat_report_activity(STATE_RUNNING, "refreshing scores");
	ps_scores_refresh(&refresh);
	ps_refresh_finish();
}

/* Segments, whatever became of the scores: their code is of others. */
static void
refresh_segments(void)
{
	PsRefresh	refresh = {.batch = BATCH,.between = scorer_between};

	if (!ps_refresh_start(&refresh))
		return;
	pgstat_report_activity(STATE_RUNNING, "refreshing segments");
	ps_segments_refresh(&refresh, NULL);
	ps_refresh_finish();
}

/* Shows an error that ended the refresh. */
static void
scorer_note_failure(const char *error)
{
	StartTransactionCommand();
	if (OidIsValid(ps_own_schema(true)))
	{
		SPI_connect();
		PushActiveSnapshot(GetTransactionSnapshot());
		ps_refresh_fail(error);
		PopActiveSnapshot();
		SPI_finish();
	}
	CommitTransactionCommand();
}

/* Does a part; an error ends that one alone. */
static void
scorer_run(void (*part) (void))
{
	PG_TRY();
	{
		StartTransactionCommand();
		if (OidIsValid(ps_own_schema(true)))
		{
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
	SetConfigOption("application_name", "profile_stream scorer", PGC_USERSET, PGC_S_SESSION);
	ps_lock_wait_bound_process();
	/* where a procedure would be called from: what lives longer than its transactions */
	PortalContext = AllocSetContextCreate(TopMemoryContext, "profile_stream scorer", ALLOCSET_DEFAULT_SIZES);
	scorer_run(scorer_look);
	if (!was_due)
		proc_exit(0);
	/* what failed comes last: it may end this process */
	scorer_run(had_failed ? refresh_segments : refresh_scores);
	scorer_run(had_failed ? refresh_scores : refresh_segments);
	proc_exit(0);
}
