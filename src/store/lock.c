/*
 * lock.c
 *	  Customer locks: transaction-level advisory locks on the key that
 *	  pg_advisory_xact_lock(profile_stream.customer_lock_key(id)) takes too. And
 *	  the locks of the tables that a worker writes.
 */
#include "postgres.h"

#include "access/twophase.h"
#include "catalog/namespace.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "profile_stream.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "store/lock.h"
#include "utils/lsyscache.h"

static const char *const tables[] = {
	"streams", "stream_offsets", "stream_status", "stream_gaps",
	"materialized_profiles", "window_chunks", "event_ids", "dead_letters"
};

int64
ps_lock_key(const char *customer_id, int len)
{
	return (int64) hash_bytes_extended((const unsigned char *) customer_id, len, 0);
}

/* Takes each lock once; waits where somebody else holds one. */
void
ps_lock_customers(const int64 *sorted_keys, int n)
{
	for (int i = 0; i < n; i++)
	{
		LOCKTAG		tag;

		if (i > 0 && sorted_keys[i] == sorted_keys[i - 1])
			continue;
		SET_LOCKTAG_ADVISORY(tag, MyDatabaseId,
							 (uint32) ((uint64) sorted_keys[i] >> 32),
							 (uint32) sorted_keys[i], 1);
		(void) LockAcquire(&tag, ExclusiveLock, false, false);
	}
}

void
ps_lock_tables(void)
{
	Oid			relids[lengthof(tables)];
	int			locked = 0;

	while (locked < lengthof(tables))
	{
		/* names are looked up again after a wait: a table may be gone then */
		Oid			schema = get_namespace_oid(PS_SCHEMA, true);
		Oid			relid = OidIsValid(schema) ? get_relname_relid(tables[locked], schema) : InvalidOid;
		bool		free = OidIsValid(relid) && ConditionalLockRelationOid(relid, RowExclusiveLock);

		if (free)
		{
			relids[locked++] = relid;
			continue;
		}
		while (locked > 0)
			UnlockRelationOid(relids[--locked], RowExclusiveLock);
		if (!OidIsValid(relid))
			return;
		LockRelationOid(relid, RowExclusiveLock);
		UnlockRelationOid(relid, RowExclusiveLock);
	}
}

int
ps_lock_table_size(void)
{
	return max_locks_per_xact * (MaxConnections + max_prepared_xacts);
}
