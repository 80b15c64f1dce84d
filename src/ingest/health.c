/*
 * health.c
 *	  When a stream had better not run: its workers end abnormally again and again,
 *	  or too many of its messages become dead letters.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "ingest/worker.h"
#include "storage/ipc.h"
#include "store/lock.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define PROVEN_MS 10000			/* who runs so long is not ending abnormally */
#define MIN_MESSAGES 100		/* of a minute: less say nothing */

/* Counts starts that came to nothing: 1 more, or none any more; returns how many there are. */
static int
count_start(PsWorker *worker, bool proven)
{
	int			starts;

	StartTransactionCommand();
	ps_lock_tables();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	starts = ps_stream_count_start(worker->stream->stream_id, proven);
	PopActiveSnapshot();
	SPI_finish();
	/* what brings the server down at once must be counted all the same */
	ForceSyncCommit();
	CommitTransactionCommand();
	return starts;
}

void
ps_health_start(PsWorker *worker)
{
	int			starts = count_start(worker, false);

	worker->started_at = GetCurrentTimestamp();
	if (starts <= ps_worker_restart_limit * worker->stream->workers)
		return;
	ps_worker_set_state(worker, "quarantined",
						psprintf("the last %d starts of a worker came to nothing", starts - 1),
						"See the server's log for how they ended. resume_stream() tries again.", -1);
	ereport(LOG, (errmsg("stream \"%s\" is quarantined after %d starts that came to nothing", worker->stream->name, starts - 1)));
	proc_exit(0);
}

void
ps_health_count(PsWorker *worker, const PsCounts *counts)
{
	worker->minute_dead += counts->dead + counts->late;
	worker->minute_messages += counts->applied + counts->duplicates + counts->dead + counts->late + counts->tombstones;
	worker->applied = true;
}

/* Pauses the stream when dead letters are more than their share of this minute's messages. */
static void
check_dead_letters(PsWorker *worker, TimestampTz now)
{
	PsStream   *stream = worker->stream;

	if (stream->dead_letter_pause_ratio < 1 && worker->minute_messages >= MIN_MESSAGES &&
		worker->minute_dead > worker->minute_messages * stream->dead_letter_pause_ratio)
	{
		char	   *error = psprintf(INT64_FORMAT " of " INT64_FORMAT " messages of this minute became dead letters",
									 worker->minute_dead, worker->minute_messages);

		StartTransactionCommand();
		ps_lock_tables();
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
		worker->minute_ends = TimestampTzPlusMilliseconds(now, 60000);
	}
}

void
ps_health_check(PsWorker *worker)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!worker->proven && (worker->applied || now >= TimestampTzPlusMilliseconds(worker->started_at, PROVEN_MS)))
	{
		(void) count_start(worker, true);
		worker->proven = true;
	}
	check_dead_letters(worker, now);
}
