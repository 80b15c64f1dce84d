/*
 * flush_stream.c
 *	  flush_stream(): asks the workers of a stream to apply what they hold, and waits for
 *	  it. It leaves its request in each worker's report (ingest/report.h). Partitions may
 *	  move meanwhile, or a worker may end: then it asks again, until all workers that run
 *	  have done it and no partition moved.
 */
#include "postgres.h"

#include "api/caller.h"
#include "clock.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "ingest/report.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "process/lease.h"
#include "process/wait_event.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "store/extension.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#define MIN_PAUSE_MS 2			/* between two looks at the workers */
#define MAX_PAUSE_MS 50

/* A worker that is asked. */
typedef struct Asked
{
	int			pid;
	dsm_segment *segment;		/* of its report */
	PsReport   *report;
	uint64		assignments;	/* as they were when it was asked */
	uint64		request;		/* number of the request; 0: not asked yet */
	int64		released;		/* what the worker had released before */
	bool		done;
} Asked;

typedef struct Flush
{
	PsStream   *stream;
	const char *customer_id;	/* NULL: all */
	PsMoment	deadline;
	long		pause;
	Asked		workers[PS_MAX_WORKERS];
	int			n;
	int64		released;
	int64		deferred;
} Flush;

/* Lets go of the reports: the views that tell the state of the stream could not attach them a second time. */
static void
flush_detach(Flush *flush)
{
	for (int i = 0; i < flush->n; i++)
		dsm_detach(flush->workers[i].segment);
	flush->n = 0;
}

/* Raises, with the state of the stream. */
static void
flush_fail(Flush *flush, int sqlerrcode, const char *message, const char *hint)
{
	char	   *state;

	flush_detach(flush);
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	state = ps_stream_describe(flush->stream->name);
	ereport(ERROR,
			(errcode(sqlerrcode),
			 errmsg(message, flush->stream->name),
			 errdetail("Its state is %s.", state),
			 errhint("%s", hint)));
}

/* Pauses, each time longer; raises after the deadline. */
static void
flush_pause(Flush *flush)
{
	CHECK_FOR_INTERRUPTS();
	if (ps_clock_now() >= flush->deadline)
		flush_fail(flush, ERRCODE_QUERY_CANCELED, "stream \"%s\" did not apply its held events in time",
				   "See profile_stream.stat_streams. What was released is applied as soon as the stream can; call again for the rest, with a longer timeout where it only needs time.");
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, flush->pause, ps_wait_event(PS_WAIT_STREAM));
	ResetLatch(MyLatch);
	flush->pause = Min(MAX_PAUSE_MS, flush->pause * 2);
}

/* Whether a lock is one of the stream's workers, of this database. */
static bool
is_of_stream(const Flush *flush, const LockInstanceData *lock)
{
	return lock->locktag.locktag_field1 == MyDatabaseId && lock->locktag.locktag_field2 == (uint32) flush->stream->stream_id;
}

/* Finds the reports of the workers that run; false when one of them does not report yet, or none runs. */
static bool
flush_attach(Flush *flush)
{
	LockData   *locks = GetLockStatusData();
	const LockInstanceData *lock;
	int			running = 0;
	int			place = 0;

	while ((lock = ps_lease_next(locks, &place, PS_SPACE_LEASE)) != NULL)
		running += is_of_stream(flush, lock) && lock->locktag.locktag_field3 > PS_LEASE_WORKER(PS_MAX_WORKERS);
	place = 0;
	while (flush->n < PS_MAX_WORKERS && (lock = ps_lease_next(locks, &place, PS_SPACE_REPORT)) != NULL)
	{
		dsm_segment *segment = is_of_stream(flush, lock) ? dsm_attach(lock->locktag.locktag_field3) : NULL;

		if (segment == NULL)
			continue;
		flush->workers[flush->n] = (Asked)
		{
			.pid = lock->pid,.segment = segment,.report = dsm_segment_address(segment)
		};
		flush->workers[flush->n].assignments = flush->workers[flush->n].report->assignments;
		flush->n++;
	}
	return running > 0 && flush->n == running;
}

/* Asks a worker, if its report has room for the request. */
static void
flush_ask(const Flush *flush, Asked *worker)
{
	PsFlushes  *flushes = &worker->report->flushes;
	PGPROC	   *proc = BackendPidGetProc(worker->pid);

	SpinLockAcquire(&flushes->mutex);
	if (flush->customer_id == NULL)
		flushes->all = true;
	else if (!flushes->all && flushes->ncustomers < PS_MAX_FLUSHES)
		strlcpy(flushes->customers[flushes->ncustomers++], flush->customer_id, PS_MAX_ID_BYTES + 1);
	else if (!flushes->all)
	{
		SpinLockRelease(&flushes->mutex);
		return;
	}
	worker->request = ++flushes->asked;
	worker->released = flushes->released;
	SpinLockRelease(&flushes->mutex);
	if (proc != NULL)
		SetLatch(&proc->procLatch);
}

/* Takes the answer of a worker, if it has done what it was asked for. */
static void
flush_take_answer(Flush *flush, Asked *worker)
{
	PsFlushes  *flushes = &worker->report->flushes;
	int64		released;
	int64		deferred;

	SpinLockAcquire(&flushes->mutex);
	worker->done = flushes->done >= worker->request;
	released = flushes->released;
	deferred = flushes->deferred;
	SpinLockRelease(&flushes->mutex);
	if (!worker->done)
		return;
	flush->released += released - worker->released;
	flush->deferred += deferred;
}

/* Asks a worker and waits until it has done it; false when it has ended, or has other partitions now. */
static bool
flush_wait_for(Flush *flush, Asked *worker)
{
	while (!worker->done)
	{
		bool		ended = worker->report->ended || BackendPidGetProc(worker->pid) == NULL;

		if (worker->request == 0)
			flush_ask(flush, worker);
		if (worker->request != 0)
			flush_take_answer(flush, worker);
		if (!worker->done && ended)
			return false;
		if (!worker->done)
			flush_pause(flush);
	}
	return worker->report->assignments == worker->assignments;
}

/* Whether a partition with held events is read by no process at the moment, as between two of them. */
static bool
is_unread(const Flush *flush)
{
	bool		unread;

	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	unread = ps_stream_has_unread(flush->stream->name);
	PopActiveSnapshot();
	SPI_finish();
	return unread;
}

/* Asks all workers that run; false: to be done again, as workers or partitions have changed. */
static bool
flush_once(Flush *flush)
{
	bool		same = flush_attach(flush);

	flush->deferred = 0;
	if (!same)
	{
		flush_detach(flush);
		return false;
	}
	for (int i = 0; i < flush->n; i++)
		flush_ask(flush, &flush->workers[i]);
	for (int i = 0; i < flush->n; i++)
		same = flush_wait_for(flush, &flush->workers[i]) && same;
	for (int i = 0; i < flush->n; i++)
		same = same && flush->workers[i].report->assignments == flush->workers[i].assignments;
	flush_detach(flush);
	return same && !is_unread(flush);
}

PS_FUNCTION(ps_flush_stream);
static Datum
ps_flush_stream_checked(PG_FUNCTION_ARGS)
{
	Flush		flush = {.pause = MIN_PAUSE_MS};
	MemoryContext caller = CurrentMemoryContext;

	PreventCommandDuringRecovery("flush_stream()");
	ps_check_argument(!PG_ARGISNULL(0) && !PG_ARGISNULL(2), "name and timeout must not be null");
	if (!PG_ARGISNULL(1))
		flush.customer_id = ps_get_name(fcinfo, 1, "customer_id", PS_MAX_ID_BYTES);
	flush.deadline = ps_get_deadline(fcinfo, 2);
	SPI_connect();
	MemoryContextSwitchTo(caller);
	flush.stream = ps_find_stream(PG_GETARG_TEXT_PP(0), true);
	SPI_finish();
	if (!flush.stream->enabled)
		flush_fail(&flush, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "stream \"%s\" does not run",
				   "resume_stream() starts it. What a stream holds is applied when it is paused, as far as half a second allows.");
	while (!flush_once(&flush))
		flush_pause(&flush);
	if (flush.deferred > 0)
		ereport(NOTICE,
				(errmsg(INT64_FORMAT " messages of stream \"%s\" are deferred", flush.deferred, flush.stream->name),
				 errdetail("Other transactions hold the locks or rows of their customers. They are applied when these end.")));
	PG_RETURN_INT64(flush.released);
}
