/*
 * locks.c
 *	  Locks of customers, and of the tables that a worker writes. A customer's lock is
 *	  an advisory lock of the transaction, which pg_locks shows with objsubid 5. The
 *	  functions pg_advisory_lock() use other numbers there; so only our own code can
 *	  take it, and lock_customer() for roles that may apply.
 */
#include "postgres.h"

#include "access/twophase.h"
#include "catalog/pg_extension.h"
#include "clock.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "settings.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "store/locks.h"
#include "store/owner.h"
#include "store/rebuild_schema.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#define CUSTOMER 5				/* objsubid; leases have 3 and 4: process/lease.c */
#define REBUILT_CUSTOMER 7		/* the same in the rebuild schema */
#define MAX_STEP_MS 16

/* the tables that a worker uses, and those that a refresh of scores uses */
static const char *const tables[] = {
	"streams", "confirmed_code", "stream_topics", "stream_offsets", "stream_status", "stream_gaps",
	"materialized_profiles", "window_chunks", "event_id_chunks", "dead_letters",
	"outbox", "sink_pending", "dead_letter_outbox", "sink_status", "blocked_customers"
};

static const char *const score_tables[] = {
	"streams", "materialized_profiles", "window_chunks", "outbox", "score_refresh", "score_passes", "segments", "segment_members", "segment_changes",
	"segment_checks", "score_function", "confirmed_code"
};

int64
ps_lock_key(const char *customer_id, int len)
{
	return (int64) hash_bytes_extended((const unsigned char *) customer_id, len, 0);
}

static LOCKTAG
customer_tag(int64 key)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) ((uint64) key >> 32), (uint32) key,
						 ps_rebuild_schema_used() ? REBUILT_CUSTOMER : CUSTOMER);
	return tag;
}

/*
 * Whether no lock is needed: the profiles of the rebuild schema have one writer, unless
 * several streams are rebuilt. Whoever swaps them waits for it.
 */
static bool
is_only_writer(void)
{
	return ps_rebuild_schema_used() && !ps_rebuild_schema_shared();
}

/* Takes each lock once; waits where somebody else holds one. */
void
ps_lock_customers(const int64 *sorted_keys, int n)
{
	for (int i = 0; i < n && !is_only_writer(); i++)
	{
		LOCKTAG		tag = customer_tag(sorted_keys[i]);

		if (i == 0 || sorted_keys[i] != sorted_keys[i - 1])
			(void) LockAcquire(&tag, ExclusiveLock, false, false);
	}
}

/* Takes those missing locks that are free; returns how many are still missing. */
static int
take_free(const int64 *sorted_keys, int n, bool *had)
{
	int			missing = 0;

	for (int i = 0; i < n; i++)
	{
		LOCKTAG		tag = customer_tag(sorted_keys[i]);

		if (i > 0 && sorted_keys[i] == sorted_keys[i - 1])
			had[i] = had[i - 1];
		else if (!had[i])
			had[i] = is_only_writer() || LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
		missing += !had[i];
	}
	return missing;
}

void
ps_lock_customers_within(const int64 *sorted_keys, int n, int wait_ms, bool *had)
{
	PsMoment	deadline = ps_moment_plus(ps_clock_now(), wait_ms);
	long		step = 1;
	bool		woken = false;

	memset(had, 0, n * sizeof(bool));
	while (take_free(sorted_keys, n, had) > 0)
	{
		long		left = (long) ps_clock_left(deadline);

		if (wait_ms <= 0 || left <= 0)
			break;
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(step, left),
					  PG_WAIT_LOCK | LOCKTAG_ADVISORY) & WL_LATCH_SET)
		{
			woken = true;
			ResetLatch(MyLatch);
		}
		CHECK_FOR_INTERRUPTS();
		step = Min(2 * step, MAX_STEP_MS);
	}
	if (woken)
		SetLatch(MyLatch);		/* the latch may have been set for our caller */
}

typedef struct KeyOfId
{
	int64		key;
	int			id;				/* its place among the ids */
} KeyOfId;

static int
compare_keys_of_ids(const void *a, const void *b)
{
	int64		x = ((const KeyOfId *) a)->key;
	int64		y = ((const KeyOfId *) b)->key;

	return x < y ? -1 : x > y;
}

void
ps_lock_ids_within(const char *const *customer_ids, int n, int wait_ms, bool *had)
{
	KeyOfId    *sorted = palloc(Max(n, 1) * sizeof(KeyOfId));
	int64	   *keys = palloc(Max(n, 1) * sizeof(int64));
	bool	   *taken = palloc(Max(n, 1) * sizeof(bool));

	for (int i = 0; i < n; i++)
	{
		sorted[i].key = ps_lock_key(customer_ids[i], strlen(customer_ids[i]));
		sorted[i].id = i;
	}
	qsort(sorted, n, sizeof(KeyOfId), compare_keys_of_ids);
	for (int i = 0; i < n; i++)
		keys[i] = sorted[i].key;
	ps_lock_customers_within(keys, n, wait_ms, taken);
	for (int i = 0; i < n; i++)
		had[sorted[i].id] = taken[i];
}

bool
ps_lock_is_free(int64 key)
{
	LOCKTAG		tag = customer_tag(key);

	if (LockAcquire(&tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	(void) LockRelease(&tag, ExclusiveLock, true);
	return true;
}

int
ps_lock_holder(int64 key)
{
	LOCKTAG		tag = customer_tag(key);
	LockData   *locks = GetLockStatusData();

	for (int i = 0; i < locks->nelements; i++)
		if (memcmp(&locks->locks[i].locktag, &tag, sizeof(LOCKTAG)) == 0 && locks->locks[i].holdMask != 0)
			return locks->locks[i].pid;
	return 0;
}

void
ps_lock_extension(void)
{
	Oid			extension = get_extension_oid("profile_stream", true);

	if (OidIsValid(extension))
		LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
}

void
ps_lock_all(const char *const *names, int n, LOCKMODE mode)
{
	Oid		   *relids = palloc(n * sizeof(Oid));
	int			locked = 0;

	ps_lock_extension();
	while (locked < n)
	{
		/* looked up again after each wait, because a table may have been dropped meanwhile */
		Oid			relid = ps_own_table(ps_rebuild_schema_used(), names[locked]);
		bool		free = OidIsValid(relid) && ConditionalLockRelationOid(relid, mode);

		if (free)
		{
			relids[locked++] = relid;
			continue;
		}
		while (locked > 0)
			UnlockRelationOid(relids[--locked], mode);
		if (!OidIsValid(relid))
			return;
		LockRelationOid(relid, mode);
		UnlockRelationOid(relid, mode);
	}
}

void
ps_lock_tables(void)
{
	ps_lock_all(tables, lengthof(tables), RowExclusiveLock);
}

void
ps_lock_definitions(LOCKMODE mode)
{
	static const char *const definitions[] = {"streams", "stream_status"};

	ps_lock_all(definitions, lengthof(definitions), mode);
}

void
ps_lock_score_tables(void)
{
	ps_lock_all(score_tables, lengthof(score_tables), RowExclusiveLock);
}

static Oid
locks_find_table(bool in_rebuild, const char *name)
{
	Oid			relid = ps_own_table(in_rebuild, name);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table %s.%s does not exist", ps_schema_of(in_rebuild, name), name)));
	return relid;
}

void
ps_lock_applying(void)
{
	LockRelationOid(locks_find_table(ps_rebuild_schema_used(), "event_id_chunks"), RowExclusiveLock);
}

void
ps_lock_copy(bool in_rebuild, LOCKMODE mode)
{
	/* applying locks event_id_chunks first: whoever holds it meets no applier in the other tables */
	static const char *const filled[] = {
		"event_id_chunks", "materialized_profiles", "window_chunks", "dead_letters", "profile_history", "stream_offsets", "stream_gaps",
		"stream_status"
	};

	/* stream_status, the last one, is not swapped or compared in profile_stream; so it need not be locked there */
	int			n = in_rebuild ? lengthof(filled) : lengthof(filled) - 1;
	Oid			relids[lengthof(filled)] = {InvalidOid};
	int			kept = -1;

	for (int i = 0; i < n; i++)
	{
		if (i == kept)
			continue;
		relids[i] = locks_find_table(in_rebuild, filled[i]);
		if (ConditionalLockRelationOid(relids[i], mode))
			continue;
		for (int j = 0; j < n; j++)
			if (j < i || j == kept)
				UnlockRelationOid(relids[j], mode);
		LockRelationOid(relids[i], mode);
		kept = i;
		i = -1;
	}
}

bool
ps_lock_appliers_are_gone(uint32 number)
{
	static Oid	table = InvalidOid;
	static uint32 greatest = 0;
	static VirtualTransactionId * next = NULL;
	Oid			relid = locks_find_table(false, "event_id_chunks");

	if (relid != table || number > greatest)
	{
		static VirtualTransactionId * appliers = NULL;
		LOCKTAG		tag;
		int			n;
		VirtualTransactionId *found;

		SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
		found = GetLockConflicts(&tag, ShareLock, &n);
		if (appliers != NULL)
			pfree(appliers);
		next = appliers = MemoryContextAlloc(TopMemoryContext, (n + 1) * sizeof(VirtualTransactionId));
		memcpy(appliers, found, (n + 1) * sizeof(VirtualTransactionId));
		table = relid;
		greatest = number;
	}
	while (VirtualTransactionIdIsValid(*next) && VirtualXactLock(*next, false))
		next++;
	return !VirtualTransactionIdIsValid(*next);
}

int
ps_lock_table_size(void)
{
	return max_locks_per_xact * (MaxConnections + max_prepared_xacts);
}
