/*
 * refresh.c
 *	  The parts that a refresh of scores and one of segments share: the lease, so that a
 *	  database has one refresh at a time; a transaction per batch; the customers' locks;
 *	  calls of users' code with their rights; and notifications.
 */
#include "postgres.h"

#include "access/xact.h"
#include "apply/notify.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "process/lease.h"
#include "scores/refresh.h"
#include "settings.h"
#include "storage/ipc.h"
#include "store/locks.h"
#include "store/owner.h"
#include "store/secret.h"
#include "store/segment_counts.h"
#include "store/shard_fence.h"
#include "store/shards.h"
#include "store/sqlstate.h"
#include "store/user_code.h"
#include "store/xact.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define DISCARDED_AT_ONCE 10000 /* rows of segment_changes in a transaction */

static bool has_lease = false;
static bool notified = false;	/* this transaction sends notifications */
static const char *segment_under_way = NULL;
static const char *code_title = ""; /* what errors call the users' code that runs */
static bool code_was_ended = false; /* users' code of the last attempt took too long, and was cancelled */

/* Releases the lease when the transaction aborts: after an error the refresh does not go on, and a session keeps its leases. */
static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT && has_lease && notified)
		PS_FAILPOINT("refresh_notifies");
	if (event != XACT_EVENT_ABORT || !has_lease)
		return;
	has_lease = false;
	ps_lease_release(PS_LEASE_REFRESH);
}

static bool
take_lease(void)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(at_transaction_end, NULL);
	registered = true;
	/* a refresh that users' code calls within a refresh counts as a second one */
	if (has_lease || !ps_lease_take(PS_LEASE_REFRESH))
		return false;
	has_lease = true;
	return true;
}

/*
 * At the exit of a process that ends because users' code could not be cancelled: notes
 * that, so that the next refresh begins with other work.
 */
static void
note_giving_up(int code, Datum arg)
{
	const char *error;

	if (!ps_user_code_gave_up() || !has_lease)
		return;
	(void) ps_user_code_end();
	AbortOutOfAnyTransaction();
	ps_begin();
	error = psprintf("%s took too long, and did not end when it was cancelled", code_title);
	if (segment_under_way != NULL)
		ps_segment_note(segment_under_way, error);
	else
		ps_refresh_fail(error);
	ps_commit();
}

void
ps_refresh_note_segment(const char *name)
{
	segment_under_way = name;
}

bool
ps_refresh_start(PsRefresh *refresh)
{
	static bool registered = false;

	if (!registered)
		before_shmem_exit(note_giving_up, (Datum) 0);
	registered = true;
	segment_under_way = NULL;
	/* the refresh needs a newer snapshot than that of the caller */
	SPI_commit();
	if (!take_lease())
		return false;
	refresh->home = CurrentMemoryContext;
	refresh->context = AllocSetContextCreate(refresh->home, "profile_stream refresh", ALLOCSET_DEFAULT_SIZES);
	refresh->batch = Max(1, Min(refresh->batch, ps_lock_table_size() / 8));
	refresh->notify = true;
	return true;
}

void
ps_refresh_finish(void)
{
	has_lease = false;
	ps_lease_release(PS_LEASE_REFRESH);
}

/* Sets up the transaction of a batch. False: the shard has left this node. */
static bool
refresh_begin(PsRefresh *refresh)
{
	/* after a wait for locks the batch must see what was committed meanwhile */
	ps_guc_set_local("transaction_isolation", "read committed");
	ps_guc_set_local("search_path", "pg_catalog, pg_temp");
	ps_guc_set_local("standard_conforming_strings", "on");
	ps_guc_set_local("synchronous_commit", "off");	/* the next refresh computes again what a crash loses */
	ps_lock_score_tables();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(refresh->context);
	refresh->locked = false;
	notified = false;
	refresh->has_left |= refresh->shard != 0 && !ps_shard_fence_use(refresh->shard);
	return !refresh->has_left;
}


/* Commits. False: the queue had no room for the notifications, and the transaction was rolled back. */
static bool
refresh_commit(PsRefresh *refresh)
{
	ErrorData  *volatile error = NULL;

	PopActiveSnapshot();
	PG_TRY();
	{
		SPI_commit();
	}
	PG_CATCH();
	{
		/* SPI_commit() has begun a new transaction */
		MemoryContextSwitchTo(refresh->context);
		error = CopyErrorData();
		if (!ps_notify_overflowed(error) || !refresh->notify)
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(refresh->context);
	if (error == NULL)
		return true;
	ereport(WARNING,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("notifications are skipped: %s", error->message)));
	refresh->notify = false;
	if (!take_lease())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("another refresh of scores or segments has begun")));
	return false;
}

bool
ps_refresh_begin_batch(PsRefresh *refresh)
{
	CHECK_FOR_INTERRUPTS();
	if (refresh->between != NULL)
		refresh->between();
	MemoryContextReset(refresh->context);
	refresh->batch_began = ps_clock_now();
	if (refresh_begin(refresh))
		return true;
	(void) refresh_commit(refresh);
	return false;
}

void
ps_refresh_commit_batch(PsRefresh *refresh, void (*write) (PsRefresh *refresh, void *arg), void *arg)
{
	PsRefreshCounts before = refresh->counts;

	if (write != NULL)
		write(refresh, arg);
	PS_FAILPOINT("refresh_before_commit");
	if (!refresh_commit(refresh))
	{
		refresh->counts = before;
		if (refresh_begin(refresh))
			write(refresh, arg);
		(void) refresh_commit(refresh);
	}
	refresh->counts.batch_ms = (ps_clock_now() - refresh->batch_began) / 1000.0;
	if (refresh->locked)
		refresh->counts.lock_ms = Max(refresh->counts.lock_ms, (ps_clock_now() - refresh->locked_at) / 1000.0);
}

void
ps_refresh_lock(PsRefresh *refresh, const char **customer_ids, int n, int wait_ms, bool *had)
{
	refresh->locked_at = ps_clock_now();
	refresh->locked = true;
	ps_lock_ids_within(customer_ids, n, wait_ms, had);
	PS_FAILPOINT("refresh_locked");
}

/* Whether an error has another cause than the profiles or the code: the system, or a user who cancels. */
static bool
is_fault(const ErrorData *error, bool in_code)
{
	int			sqlerrcode = error->sqlerrcode;

	/* users' code can raise any SQLSTATE; only the server's own cancel is not the code's fault */
	if (in_code)
		return sqlerrcode == ERRCODE_QUERY_CANCELED && strcmp(error->funcname, "ProcessInterrupts") == 0 && !code_was_ended;
	return ps_sqlstate_ends_refresh(sqlerrcode);
}

ErrorData *
ps_refresh_attempt(void (*work) (void *arg), void *arg)
{
	PsSubxact	outside;
	ErrorData  *volatile error = NULL;
	volatile bool in_code = false;

	code_was_ended = false;
	outside = ps_subxact_begin();
	PG_TRY();
	{
		work(arg);
		ps_subxact_end(outside, true);
	}
	PG_CATCH();
	{
		const char *ending;

		MemoryContextSwitchTo(outside.context);
		error = CopyErrorData();
		FlushErrorState();
		in_code = ps_user_code_is_on();
		ending = in_code ? ps_user_code_end() : NULL;
		if (ending != NULL)
			error->message = psprintf("%s %s", code_title, ending);
		code_was_ended |= ending != NULL;
		ps_subxact_end(outside, false);
	}
	PG_END_TRY();
	if (error != NULL && is_fault(error, in_code || code_was_ended))
		ReThrowError(error);
	return error;
}

void
ps_refresh_announce(PsRefresh *refresh, const PsSegmentChange *changes, int n, const char *kind)
{
	TimestampTz at = GetCurrentTimestamp();
	const char *channel;

	if (n == 0)
		return;
	ps_segment_changes_add(changes, n, kind, at);
	refresh->counts.segment_changes += n;
	if (!refresh->notify || ps_notify_queue_full(ps_notify_queue_limit))
	{
		refresh->counts.notifications_skipped += n;
		return;
	}
	notified = true;
	channel = ps_secret_name(PS_SEGMENTS_CHANNEL);
	for (int i = 0; i < n; i++)
		ps_notify(channel, ps_notify_segment_payload(&changes[i], kind, at));
}

void
ps_refresh_announce_scores(PsRefresh *refresh, const PsWatches *watches, const PsScoreChange *changes, int n)
{
	if (watches == NULL || n == 0)
		return;
	if (!refresh->notify || ps_notify_queue_full(ps_notify_queue_limit))
		return;
	notified = true;
	ps_notify_scores(watches, changes, n);
}

void
ps_refresh_discard(PsRefresh *refresh)
{
	uint64		discarded = DISCARDED_AT_ONCE;

	while (ps_segment_change_retention_s > 0 && discarded == DISCARDED_AT_ONCE)
	{
		if (!ps_refresh_begin_batch(refresh))
			return;
		discarded = ps_segment_changes_discard(GetCurrentTimestamp() - ps_segment_change_retention_s * USECS_PER_SEC, DISCARDED_AT_ONCE);
		ps_refresh_commit_batch(refresh, NULL, NULL);
	}
}

/* The number of a shard that is here and not among those that are done; 0: there is none. */
static int64
next_shard(const int64 *done, int ndone)
{
	ps_shards_look();
	for (int shard = 0; shard < ps_shards_count(); shard++)
	{
		int64		id = ps_shards_id(shard, PS_SHARDED_PROFILES);
		int			i = 0;

		while (i < ndone && done[i] != id)
			i++;
		if (i == ndone && ps_shards_is_here(shard))
			return id;
	}
	return 0;
}

void
ps_refresh_each_shard(PsRefresh *refresh, void (*part) (PsRefresh *refresh, void *arg), void *arg)
{
	int64	   *done = NULL;
	int			ndone = 0;
	bool		is_distributed;

	do
	{
		(void) ps_refresh_begin_batch(refresh);
		is_distributed = ps_distributed();
		refresh->shard = is_distributed ? next_shard(done, ndone) : 0;
		ps_refresh_commit_batch(refresh, NULL, NULL);
		if (is_distributed && refresh->shard == 0)
			break;
		MemoryContextSwitchTo(refresh->home);
		done = done == NULL ? palloc(sizeof(int64)) : repalloc(done, (ndone + 1) * sizeof(int64));
		done[ndone++] = refresh->shard;
		part(refresh, arg);
		refresh->shard = 0;
		refresh->has_left = false;
	} while (is_distributed);
	MemoryContextSwitchTo(refresh->home);
}

static void
write_segment_counts(PsRefresh *refresh, void *arg)
{
	if (*(const bool *) arg || ps_segment_counts_due())
		ps_segment_counts_write();
}

void
ps_refresh_count_segments(PsRefresh *refresh, bool again)
{
	(void) ps_refresh_begin_batch(refresh);
	ps_refresh_commit_batch(refresh, write_segment_counts, &again);
}

void
ps_refresh_begin_code(const char *title, int timeout_ms, const char *setting)
{
	code_title = title;
	ps_user_code_begin(timeout_ms, setting);
}

void
ps_refresh_end_code(void)
{
	const char *ending = ps_user_code_end();

	if (ending == NULL)
		return;
	code_was_ended = true;
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("%s %s", code_title, ending)));
}

bool
ps_refresh_code_was_ended(void)
{
	return code_was_ended;
}
