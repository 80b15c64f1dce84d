/*
 * retention.c
 *	  Upkeep between batches: removes expired chunks of event ids, dead letters and history,
 *	  folds expired samples, notes the sizes of the tables, and evaluates live segments that
 *	  change with time alone. The first worker of a stream does it, in steps of a few
 *	  milliseconds. Only one stream of a database does it at a time.
 */
#include "postgres.h"

#include "access/xact.h"
#include "apply/live.h"
#include "apply/prune.h"
#include "executor/spi.h"
#include "ingest/retention.h"
#include "ingest/score_timer.h"
#include "ingest/transaction.h"
#include "miscadmin.h"
#include "process/backoff.h"
#include "process/lease.h"
#include "settings.h"
#include "store/distributed.h"
#include "store/expired.h"
#include "store/history_partitions.h"
#include "store/locks.h"
#include "store/owner.h"
#include "store/shard_fence.h"
#include "store/storage_samples.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define RETENTION_LEASE 0, 0	/* of no stream */
#define STEP_PAGES 128
#define STEP_ROWS 1000
#define STEP_CUSTOMERS 500		/* whose live segments are evaluated without an event */
#define BUSY_MS 100				/* until the next step, when this one removed something */
#define SWEEP_MS 1000			/* until the next step, when it removed nothing */
#define MEASURE_SHARE 100		/* measuring takes at most one part in so many of the time */
#define MIN_PAUSE_MS INT64CONST(10000)	/* between sweeps over event_id_chunks */
#define SAMPLE_MS INT64CONST(600000)	/* between two looks whether the sizes of the tables are to be taken */
#define MAX_PAUSE_MS INT64CONST(3600000)

/* A step that removes what has expired with time from the tables of profiles, or of distributed profiles from all shards that are here. */
typedef struct Expiring
{
	TimestampTz now;
	BlockNumber page;			/* of event_id_chunks */
	bool		has_more;		/* pages after those of this step */
	int64		pause_ms;
} Expiring;

/* Removes expired chunks from the next pages of event_id_chunks; returns how many. */
static int64
forget_ids(Expiring *expiring)
{
	PsIdChunkSweep sweep;

	ps_expired_measure(&sweep);
	expiring->has_more |= expiring->page + STEP_PAGES < sweep.npages;
	expiring->pause_ms = Max(MIN_PAUSE_MS, Min(MAX_PAUSE_MS, sweep.retention_us / 1000 / 100));
	return expiring->page < sweep.npages ? ps_expired_forget(expiring->page, STEP_PAGES, expiring->now - sweep.retention_us) : 0;
}

static int64
expire_profiles(void *arg)
{
	Expiring   *expiring = arg;
	int64		found = forget_ids(expiring);

	return found + ps_prune_chunks(ps_sample_retention_s < 0 ? DT_NOBEGIN : expiring->now - ps_sample_retention_s * USECS_PER_SEC, STEP_ROWS);
}

/*
 * Discards the oldest dead letters of a stream that has more bytes of them than
 * dead_letter_bytes. So a producer of bad messages can neither fill the disk nor stop
 * the stream for others. A measurement that takes long is done less often.
 */
static uint64
cut_letters(void)
{
	static PsLetterExcess excess;
	static bool cutting = false;
	static bool warned = false;
	static PsMoment next_measure = 0;
	PsMoment	began = ps_clock_now();
	uint64		cut;

	if (!cutting)
	{
		if (ps_dead_letter_kb == 0 || began < next_measure)
			return 0;
		cutting = ps_expired_find_excess(ps_dead_letter_kb * INT64CONST(1024), &excess);
		next_measure = ps_moment_plus(ps_clock_now(), Max(MIN_PAUSE_MS, (ps_clock_now() - began) / 1000 * MEASURE_SHARE));
		if (cutting && !warned)
			ereport(WARNING,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("dead letters of stream \"%s\" take more than profile_stream.dead_letter_bytes; the oldest ones are discarded", excess.stream),
					 errhint("See the errors in profile_stream.dead_letters. Call discard_dead_letters() to make room.")));
		warned = cutting;
		if (!cutting)
			return 0;
	}
	cut = ps_expired_cut(&excess, STEP_ROWS);
	cutting = cut > 0;
	return cut;
}

/* A step that removes what has expired with time. */
static void
retention_expire(PsWorker *worker)
{
	Expiring	expiring = {.now = GetCurrentTimestamp(),.page = worker->retention.page,.pause_ms = MIN_PAUSE_MS};
	uint64		found = ps_each_shard(expire_profiles, &expiring);

	worker->retention.page = expiring.has_more ? expiring.page + STEP_PAGES : 0;
	if (expiring.has_more)
		expiring.pause_ms = SWEEP_MS;
	if (ps_dead_letter_retention_s > 0)
		found += ps_expired_discard(expiring.now - ps_dead_letter_retention_s * USECS_PER_SEC, STEP_ROWS);
	if (!ps_history_prune(expiring.now))
		expiring.pause_ms = Min(expiring.pause_ms, MIN_PAUSE_MS);
	worker->retention.next = ps_moment_plus(ps_clock_now(), found > 0 ? BUSY_MS : expiring.pause_ms);
}

/* Which parts of a step are due. */
typedef struct Due
{
	bool		expires;
	bool		letters;
	bool		live;
	bool		sample;
} Due;

/* One step, in its own transaction. */
static void
retention_step(PsWorker *worker, const Due *due)
{
	ps_worker_begin(worker);
	ps_check_may_run(GetUserId());
	ps_lock_tables();
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	if (due->letters)
		worker->retention.next_letters = ps_moment_plus(ps_clock_now(), cut_letters() > 0 ? BUSY_MS : MIN_PAUSE_MS);
	if (due->expires)
		retention_expire(worker);
	/* the tables of distributed profiles are empty here, their shards are not */
	if (due->sample && !ps_distributed())
		ps_storage_sample();
	if (due->live && ps_live_sweep(STEP_CUSTOMERS, true) > 0)
		worker->retention.next_live = ps_moment_plus(ps_clock_now(), BUSY_MS);
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
}

/* A step succeeded after failures. */
static void
forget_failures(PsWorker *worker)
{
	ereport(LOG, (errmsg("retention of stream \"%s\" works again, after %d attempts", worker->stream->name, worker->retention.failures)));
	worker->retention.failures = 0;
	pfree(worker->retention.error);
	worker->retention.error = NULL;
}

void
ps_retention(PsWorker *worker)
{
	PsMoment	now = ps_clock_now();
	Due			due;

	if (worker->number != 0)
		return;
	ps_score_timer();
	due.expires = now >= worker->retention.next;
	due.letters = now >= worker->retention.next_letters || due.expires;
	due.live = now >= worker->retention.next_live && ps_live_segments_may_exist();
	due.sample = now >= worker->retention.next_sample;
	if (!due.expires && !due.letters && !due.live && !due.sample)
		return;
	if (due.expires)
		worker->retention.next = ps_moment_plus(now, MIN_PAUSE_MS);
	if (due.letters)
		worker->retention.next_letters = ps_moment_plus(now, MIN_PAUSE_MS);
	if (due.sample)
		worker->retention.next_sample = ps_moment_plus(now, SAMPLE_MS);
	worker->retention.next_live = ps_moment_plus(now, SWEEP_MS);
	if (!ps_lease_take(RETENTION_LEASE))
		return;
	retention_step(worker, &due);
	ps_lease_release(RETENTION_LEASE);
	if (worker->retention.failures > 0)
		forget_failures(worker);
}

void
ps_retention_failed(PsWorker *worker, const char *reason)
{
	MemoryContext old = MemoryContextSwitchTo(worker->context);

	if (ps_lease_take(RETENTION_LEASE)) /* it is ours after a step that failed; another worker's is left alone */
		ps_lease_release(RETENTION_LEASE);
	worker->retention.next = ps_moment_plus(ps_clock_now(), MIN_PAUSE_MS + ps_backoff_ms(worker->retention.failures++));
	worker->retention.next_live = worker->retention.next;
	if (worker->retention.error != NULL)
		pfree(worker->retention.error);
	worker->retention.error = psprintf("retention: %s", reason);
	MemoryContextSwitchTo(old);
}
