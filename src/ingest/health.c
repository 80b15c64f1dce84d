/*
 * health.c
 *	  Stops a stream whose workers end abnormally again and again, and pauses one of
 *	  which too many messages become dead letters.
 *
 *	  attempt	the start of a worker, until the broker has answered or refused; and
 *				its first batch, until that is committed. A worker that ends abnormally
 *				in an attempt has failed. A worker that ends between the two does not
 *				count: another stream may have crashed the server.
 */
#include "postgres.h"

#include "access/xact.h"
#include "ingest/health.h"
#include "ingest/transaction.h"
#include "ingest/worker_state.h"
#include "process/bgworker.h"
#include "settings.h"
#include "storage/ipc.h"
#include "store/locks.h"
#include "store/process_counters.h"
#include "store/xact.h"

#define PROVEN_MS 10000			/* a worker that runs so long has not failed */
#define MIN_MESSAGES 100		/* fewer messages in a minute prove nothing */

/* Changes the number of failed attempts; an attempt counts as failed until it has succeeded. Returns the number. */
static int
count_attempts(PsWorker *worker, int change)
{
	int			attempts;

	ps_worker_begin(worker);
	ps_lock_definitions(RowExclusiveLock);
	ps_spi_begin();
	attempts = ps_stream_count_attempts(worker->stream->stream_id, change);
	ps_spi_end();
	/* count also an attempt that crashes the server at once */
	ForceSyncCommit();
	CommitTransactionCommand();
	return attempts;
}

/* Counts the start of this process, for stat_streams. */
static void
count_start(PsWorker *worker)
{
	ps_worker_begin(worker);
	ps_spi_begin();
	ps_process_count_start(worker->stream_id, ps_bgworker_process_name(worker->number), ps_bgworker_process().registration);
	ps_commit();
	worker->health.counted = true;
}

void
ps_health_start(PsWorker *worker)
{
	int			attempts = count_attempts(worker, 1);

	if (!worker->health.counted)
		count_start(worker);
	worker->health.started_at = ps_clock_now();
	worker->health.attempt = PS_ATTEMPT_START;
	if (attempts <= ps_worker_restart_limit * worker->stream->workers)
		return;
	ps_worker_set_state(worker, PS_STATE_QUARANTINED,
						psprintf("the last %d attempts of workers failed", attempts - 1),
						"See in the server's log how they ended. resume_stream() tries again.");
	proc_exit(0);
}

void
ps_health_answered(PsWorker *worker)
{
	if (worker->health.attempt != PS_ATTEMPT_START)
		return;
	(void) count_attempts(worker, -1);
	worker->health.attempt = PS_ATTEMPT_NONE;
}

void
ps_health_begin(PsWorker *worker)
{
	if (worker->health.attempt == PS_ATTEMPT_BATCH || worker->health.attempt == PS_ATTEMPT_PROVEN)
		return;
	(void) count_attempts(worker, 1);
	worker->health.attempt = PS_ATTEMPT_BATCH;
}

void
ps_health_count(PsWorker *worker, const PsCounts *counts)
{
	/* a late event is not a bad one: a device that was offline must not stop everybody's stream */
	worker->health.minute_dead += counts->dead;
	/* consumed counts held messages, too: dead letters are never held, and would weigh more otherwise */
	worker->health.minute_messages += counts->consumed - counts->ignored;
}

/* Pauses the stream when too large a share of this minute's messages became dead letters. */
static void
check_dead_letters(PsWorker *worker, PsMoment now)
{
	PsStream   *stream = worker->stream;

	if (stream->dead_letter_pause_ratio < 1 && worker->health.minute_messages >= MIN_MESSAGES &&
		worker->health.minute_dead > worker->health.minute_messages * stream->dead_letter_pause_ratio)
	{
		char	   *error = psprintf(INT64_FORMAT " of " INT64_FORMAT " messages of this minute became dead letters",
									 worker->health.minute_dead, worker->health.minute_messages);

		ps_worker_begin(worker);
		ps_lock_definitions(RowExclusiveLock);
		ps_spi_begin();
		ps_stream_stop(stream->stream_id, error,
					   "See dead_letters for the reasons. resume_stream() goes on. To accept any number of dead letters, call alter_stream() with dead_letter_pause_ratio => 1.");
		ps_commit();
		ereport(WARNING,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("stream \"%s\" is paused: %s", stream->name, error)));
	}
	if (now >= worker->health.minute_ends)
	{
		worker->health.minute_messages = worker->health.minute_dead = 0;
		worker->health.minute_ends = ps_moment_plus(now, 60000);
	}
}

void
ps_health_check(PsWorker *worker)
{
	PsMoment	now = ps_clock_now();

	if (worker->health.attempt == PS_ATTEMPT_BATCH ||
		(worker->health.attempt == PS_ATTEMPT_NONE && now >= ps_moment_plus(worker->health.started_at, PROVEN_MS)))
	{
		(void) count_attempts(worker, -PS_ALL_ATTEMPTS);
		worker->health.attempt = PS_ATTEMPT_PROVEN;
	}
	check_dead_letters(worker, now);
}
