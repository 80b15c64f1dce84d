/*
 * lease.c
 *	  Leases, as advisory locks that pg_locks shows with objsubid 3 (leases) and
 *	  4 (starting): no application's advisory lock has those.
 */
#include "postgres.h"

#include "ingest/lease.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "utils/timestamp.h"

#define LEASE 3
#define STARTING 4
#define PREDECESSOR_MS 10000	/* time for a worker that was told to stop */

static LOCKTAG
lease_tag(int stream_id, uint32 what, uint16 space)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) stream_id, what, space);
	return tag;
}

bool
ps_lease_take(int stream_id, uint32 what)
{
	LOCKTAG		tag = lease_tag(stream_id, what, LEASE);

	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

bool
ps_lease_become_worker(int stream_id)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PREDECESSOR_MS);

	while (!ps_lease_take(stream_id, PS_LEASE_WORKER))
	{
		if (GetCurrentTimestamp() >= deadline)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 50, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

bool
ps_lease_has_worker(int stream_id)
{
	LOCKTAG		tag = lease_tag(stream_id, PS_LEASE_WORKER, LEASE);

	if (LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	(void) LockRelease(&tag, ExclusiveLock, false);
	return false;
}

void
ps_lease_hold_back(int stream_id)
{
	LOCKTAG		tag = lease_tag(stream_id, PS_LEASE_WORKER, STARTING);

	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

void
ps_lease_wait_start(int stream_id)
{
	LOCKTAG		tag = lease_tag(stream_id, PS_LEASE_WORKER, STARTING);

	(void) LockAcquire(&tag, ShareLock, false, false);
}
