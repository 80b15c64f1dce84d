/*
 * lock.c
 *	  Customer locks: transaction-level advisory locks on the key that
 *	  pg_advisory_xact_lock(profile_stream.customer_lock_key(id)) takes too.
 */
#include "postgres.h"

#include "access/twophase.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "store/lock.h"

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

int
ps_lock_table_size(void)
{
	return max_locks_per_xact * (MaxConnections + max_prepared_xacts);
}
