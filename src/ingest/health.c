/*
 * health.c
 *	  When a stream had better not run: its workers end abnormally again and again,
 *	  or too many of its messages become dead letters.
 *
 *	  attempt	to start, until the broker answered or did not; to apply the first
 *				batch, until it is committed. A worker that dies in one has come to
 *				nothing; one that dies between them died of something else, such as
 *				a crash of the server that another stream brought about.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "ingest/worker.h"
#include "settings.h"
#include "storage/ipc.h"
#include "store/locks.h"
#include "utils/snapmgr.h"

#define PROVEN_MS 10000			/* who runs so long is not ending abnormally */
#define MIN_MESSAGES 100		/* of a minute: less say nothing */

/* Changes the number of attempts that may have come to nothing; returns it. */
static int
count_attempts(PsWorker *worker, int change)
{
	int			attempts;

	ps_worker_begin(worker);
	ps_lock_definitions(RowExclusiveLock);
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	attempts = ps_stream_count_attempts(worker->stream->stream_id, change);
	PopActiveSnapshot();
	SPI_finish();
	/* what brings the server down at once must be counted all the same */
	ForceSyncCommit();
	CommitTransactionCommand();
	return attempts;
}

void
ps_health_start(PsWorker *worker)
{
	int			attempts = count_attempts(worker, 1);

	worker->started_at = ps_clock_now();
	worker->attempt = PS_ATTEMPT_START;
	if (attempts <= ps_worker_restart_limit * worker->stream->workers)
		return;
	ps_worker_set_state(worker, PS_STATE_QUARANTINED,
						psprintf("the last %d attempts of a worker came to nothing", attempts - 1),
						"See the server's log for how they ended. resume_stream() tries again.", -1);
	ereport(LOG, (errmsg("stream \"%s\" is quarantined after %d attempts that came to nothing",
						 worker->stream->name, attempts - 1)));
	proc_exit(0);
}

void
ps_health_answered(PsWorker *worker)
{
	if (worker->attempt != PS_ATTEMPT_START)
		return;
	(void) count_attempts(worker, -1);
	worker->attempt = PS_ATTEMPT_NONE;
}

void
ps_health_begin(PsWorker *worker)
{
	if (worker->attempt == PS_ATTEMPT_BATCH || worker->attempt == PS_ATTEMPT_PROVEN)
		return;
	(void) count_attempts(worker, 1);
	worker->attempt = PS_ATTEMPT_BATCH;
}

void
ps_health_count(PsWorker *worker, const PsCounts *counts)
{
	/* with what is held, or dead letters, which never are, would weigh more */
	worker->minute_dead += counts->dead + counts->late;
	worker->minute_messages += counts->consumed;
}

/* Pauses the stream when dead letters are more than their share of this minute's messages. */
static void
check_dead_letters(PsWorker *worker, PsMoment now)
{
	PsStream   *stream = worker->stream;

	if (stream->dead_letter_pause_ratio < 1 && worker->minute_messages >= MIN_MESSAGES &&
		worker->minute_dead > worker->minute_messages * stream->dead_letter_pause_ratio)
	{
		char	   *error = psprintf(INT64_FORMAT " of " INT64_FORMAT " messages of this minute became dead letters",
									 worker->minute_dead, worker->minute_messages);

		ps_worker_begin(worker);
		ps_lock_definitions(RowExclusiveLock);
		SPI_connect();
		PushActiveSnapshot(GetTransactionSnapshot());
		ps_stream_stop(stream->stream_id, error,
					   "See dead_letters for the reasons. resume_stream() goes on; alter_stream(dead_letter_pause_ratio => 1) lets any number pass.");
		PopActiveSnapshot();
		SPI_finish();
		CommitTransactionCommand();
		ereport(WARNING,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("stream \"%s\" is paused: %s", stream->name, error)));
	}
	if (now >= worker->minute_ends)
	{
		worker->minute_messages = worker->minute_dead = 0;
		worker->minute_ends = ps_moment_plus(now, 60000);
	}
}

void
ps_health_check(PsWorker *worker)
{
	PsMoment	now = ps_clock_now();

	if (worker->attempt == PS_ATTEMPT_BATCH ||
		(worker->attempt == PS_ATTEMPT_NONE && now >= ps_moment_plus(worker->started_at, PROVEN_MS)))
	{
		(void) count_attempts(worker, -PS_ALL_ATTEMPTS);
		worker->attempt = PS_ATTEMPT_PROVEN;
	}
	check_dead_letters(worker, now);
}
