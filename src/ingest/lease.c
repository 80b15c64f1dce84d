/*
 * lease.c
 *	  Leases, as advisory locks that pg_locks shows with objsubid 3 (leases) and
 *	  4 (starting): no application's advisory lock has those.
 */
#include "postgres.h"

#include "clock.h"
#include "ingest/lease.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "store/shadow.h"

#define LEASE 3
#define STARTING 4
#define PREDECESSOR_MS 10000	/* time for a worker that was told to stop */

static LOCKTAG
lease_tag(int stream_id, uint32 what, uint16 space)
{
	LOCKTAG		tag;

	if (ps_shadow_used())
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

/* Takes the lease of a worker, once its predecessor has left. */
static bool
take_worker(int stream_id, int number, LOCKMODE mode, bool session)
{
	PsMoment	deadline = ps_moment_plus(ps_clock_now(), PREDECESSOR_MS);
	LOCKTAG		tag = lease_tag(stream_id, PS_LEASE_WORKER(number), LEASE);

	while (LockAcquire(&tag, mode, session, true) == LOCKACQUIRE_NOT_AVAIL)
	{
		if (ps_clock_now() >= deadline)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 50, PG_WAIT_EXTENSION);
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

	/* shared, so that those who ask at one time do not see each other */
	if (LockAcquire(&tag, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	(void) LockRelease(&tag, ShareLock, false);
	return false;
}

int
ps_lease_count_workers(void)
{
	LockData   *locks = GetLockStatusData();
	int			n = 0;

	for (int i = 0; i < locks->nelements; i++)
	{
		const LOCKTAG *tag = &locks->locks[i].locktag;

		n += tag->locktag_type == LOCKTAG_ADVISORY && tag->locktag_field4 == LEASE &&
			tag->locktag_field3 > PS_LEASE_WORKER(PS_MAX_WORKERS) &&
			(locks->locks[i].holdMask & LOCKBIT_ON(ExclusiveLock)) != 0;
	}
	return n;
}

int
ps_lease_processes_elsewhere(int *pids, int max)
{
	LockData   *locks = GetLockStatusData();
	int			n = 0;

	for (int i = 0; i < locks->nelements && n < max; i++)
	{
		const LOCKTAG *tag = &locks->locks[i].locktag;

		if (tag->locktag_type == LOCKTAG_ADVISORY && tag->locktag_field4 == LEASE && tag->locktag_field1 != MyDatabaseId &&
			tag->locktag_field3 > PG_INT32_MAX && (locks->locks[i].holdMask & LOCKBIT_ON(ExclusiveLock)) != 0)
			pids[n++] = locks->locks[i].pid;
	}
	return n;
}

void
ps_lease_lock_partitions(int stream_id)
{
	LOCKTAG		tag = lease_tag(stream_id, 0, STARTING);

	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

void
ps_lease_hold_back(int stream_id)
{
	LOCKTAG		tag = lease_tag(stream_id, PS_LEASE_WORKER(0), STARTING);

	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

void
ps_lease_wait_start(int stream_id)
{
	LOCKTAG		tag = lease_tag(stream_id, PS_LEASE_WORKER(0), STARTING);

	(void) LockAcquire(&tag, ShareLock, false, false);
}
