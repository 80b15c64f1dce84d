/*
 * lease.c
 *	  Leases as advisory locks. Applications' advisory locks have objsubid 1 or 2 in
 *	  pg_locks; ours have 3 (leases), 4 (start and change of a stream), 6 (reports) and 8 (meters),
 *	  so that they never meet.
 */
#include "postgres.h"

#include <signal.h>

#include "clock.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "process/lease.h"
#include "process/wait_event.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "store/rebuild_schema.h"
#include "store/xact.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define LEASE PS_SPACE_LEASE
#define STARTING PS_SPACE_STARTING
#define PATIENCE_MS 300			/* time for a transaction to end before it is cancelled, again and again */
#define MAX_CANCELLED 128
#define PREDECESSOR_MS 10000	/* time for a worker that was told to stop */

/* the processes that the timer cancels */
static int	cancelled[MAX_CANCELLED];
static volatile sig_atomic_t ncancelled = 0;

static LOCKTAG
lease_tag(int stream_id, uint32 what, uint16 space)
{
	LOCKTAG		tag;

	if (ps_rebuild_schema_used())
		stream_id = PS_LEASE_OF_REBUILD(stream_id);
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) stream_id, what, space);
	return tag;
}

bool
ps_lease_take(int stream_id, uint32 what)
{
	LOCKTAG		tag = lease_tag(stream_id, what, LEASE);

	switch (LockAcquire(&tag, ExclusiveLock, true, true))
	{
		case LOCKACQUIRE_NOT_AVAIL:
			return false;
		case LOCKACQUIRE_ALREADY_HELD:
		case LOCKACQUIRE_ALREADY_CLEAR:
			(void) LockRelease(&tag, ExclusiveLock, true);
			return true;
		default:
			return true;
	}
}

void
ps_lease_release(int stream_id, uint32 what)
{
	LOCKTAG		tag = lease_tag(stream_id, what, LEASE);

	(void) LockRelease(&tag, ExclusiveLock, true);
}

/* Takes the lease of a worker. Waits for the worker that has it to leave; false when it does not. */
static bool
take_worker(int stream_id, int number, LOCKMODE mode, bool session)
{
	PsMoment	deadline = ps_moment_plus(ps_clock_now(), PREDECESSOR_MS);
	LOCKTAG		tag = lease_tag(stream_id, PS_LEASE_WORKER(number), LEASE);

	while (LockAcquire(&tag, mode, session, true) == LOCKACQUIRE_NOT_AVAIL)
	{
		if (ps_clock_now() >= deadline)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 50, ps_wait_event(PS_WAIT_PREDECESSOR));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

bool
ps_lease_become_worker(int stream_id, int number)
{
	return take_worker(stream_id, number, ExclusiveLock, true);
}

bool
ps_lease_bar_workers(int stream_id)
{
	for (int number = 0; number < PS_MAX_WORKERS; number++)
		if (!take_worker(stream_id, number, ShareLock, false))
			return false;
	return true;
}

bool
ps_lease_has_worker(int stream_id, int number)
{
	LOCKTAG		tag = lease_tag(stream_id, PS_LEASE_WORKER(number), LEASE);

	/* shared, so that two processes that ask at the same time do not see each other */
	if (LockAcquire(&tag, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	(void) LockRelease(&tag, ShareLock, false);
	return false;
}

const LockInstanceData *
ps_lease_next(const LockData *locks, int *place, uint16 space)
{
	while (*place < locks->nelements)
	{
		const LockInstanceData *lock = &locks->locks[(*place)++];

		if (lock->locktag.locktag_type == LOCKTAG_ADVISORY && lock->locktag.locktag_field4 == space && lock->pid != 0 &&
			(lock->holdMask & LOCKBIT_ON(ExclusiveLock)) != 0)
			return lock;
	}
	return NULL;
}

int
ps_lease_count_workers(void)
{
	LockData   *locks = GetLockStatusData();
	const LockInstanceData *lock;
	int			place = 0;
	int			n = 0;

	while ((lock = ps_lease_next(locks, &place, LEASE)) != NULL)
		n += lock->locktag.locktag_field3 > PS_LEASE_WORKER(PS_MAX_WORKERS);
	return n;
}

int
ps_lease_processes_elsewhere(int *pids, int max)
{
	LockData   *locks = GetLockStatusData();
	const LockInstanceData *lock;
	int			place = 0;
	int			n = 0;

	while (n < max && (lock = ps_lease_next(locks, &place, LEASE)) != NULL)
		if (lock->locktag.locktag_field1 != MyDatabaseId && lock->locktag.locktag_field3 > PG_INT32_MAX)
			pids[n++] = lock->pid;
	return n;
}

void
ps_lease_lock_partitions(int stream_id)
{
	LOCKTAG		tag = lease_tag(stream_id, 0, STARTING);

	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/* The timer's handler: cancels the processes that have the lock. */
static void
cancel_holders(void)
{
	for (int i = 0; i < ncancelled; i++)
		(void) kill(cancelled[i], SIGINT);
}

/* Finds the processes that have a lock; whether one of them waits for a standby. */
static bool
find_holders(const LOCKTAG *tag)
{
	LockData   *locks = GetLockStatusData();
	bool		standby = false;
	int			n = 0;

	for (int i = 0; i < locks->nelements && n < MAX_CANCELLED; i++)
	{
		PGPROC	   *proc;

		if (memcmp(&locks->locks[i].locktag, tag, sizeof(LOCKTAG)) != 0 || locks->locks[i].pid == MyProcPid ||
			locks->locks[i].holdMask != LOCKBIT_ON(ShareLock) || (proc = BackendPidGetProc(locks->locks[i].pid)) == NULL)
			continue;
		cancelled[n++] = proc->pid;
		standby |= proc->wait_event_info == WAIT_EVENT_SYNC_REP;
	}
	ncancelled = n;
	return standby;
}

void
ps_lease_hold_back(int stream_id)
{
	static TimeoutId timer = MAX_TIMEOUTS;
	LOCKTAG		tag = lease_tag(stream_id, PS_LEASE_WORKER(0), STARTING);

	if (LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL)
		return;
	if (timer == MAX_TIMEOUTS)
		timer = RegisterTimeout(USER_TIMEOUT, cancel_holders);
	/* the worker waits for a standby, and so would our commit: the change would not become visible */
	if (find_holders(&tag))
	{
		ps_guc_set_local("synchronous_commit", "local");
		ereport(NOTICE,
				(errmsg("the stream waits for a synchronous standby"),
				 errdetail("This transaction will not wait for it.")));
	}
	enable_timeout_every(timer, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PATIENCE_MS), PATIENCE_MS);
	PG_TRY();
	{
		(void) LockAcquire(&tag, ExclusiveLock, false, false);
	}
	PG_FINALLY();
	{
		ncancelled = 0;
		disable_timeout(timer, false);
	}
	PG_END_TRY();
}

void
ps_lease_publish(int stream_id, uint32 handle, uint16 space)
{
	LOCKTAG		tag = lease_tag(stream_id, handle, space);

	(void) LockAcquire(&tag, ExclusiveLock, true, true);
}

void
ps_lease_unpublish(int stream_id, uint32 handle, uint16 space)
{
	LOCKTAG		tag = lease_tag(stream_id, handle, space);

	(void) LockRelease(&tag, ExclusiveLock, true);
}

void
ps_lease_wait_start(int stream_id)
{
	LOCKTAG		tag = lease_tag(stream_id, PS_LEASE_WORKER(0), STARTING);

	(void) LockAcquire(&tag, ShareLock, false, false);
}
