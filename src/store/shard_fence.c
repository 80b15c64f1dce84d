/*
 * shard_fence.c
 *	  When Citus moves a shard, it copies the last changes and changes the catalogue under
 *	  an exclusive lock of the shard's metadata, on every node. A row that is written into
 *	  the old shard after that is lost. So who writes shares that lock until the commit.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "storage/lockdefs.h"
#include "store/owner.h"
#include "store/shard_fence.h"
#include "store/shards.h"
#include "utils/array.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

#define LOCK_FUNCTION "lock_shard_metadata"

/* Locks the metadata of the shards of profiles that are here. A move takes the locks of all tables together, so that one of them will do. */
static void
lock_here(void)
{
	static const Oid types[2] = {INT4OID, INT8ARRAYOID};
	int			n = ps_shards_count();
	Datum	   *ids = palloc(Max(n, 1) * sizeof(Datum));
	int			here = 0;
	Oid			function;
	PsSavedUser saved;

	for (int i = 0; i < n; i++)
		if (ps_shards_is_here(i))
			ids[here++] = Int64GetDatum(ps_shards_id(i, PS_SHARDED_PROFILES));
	if (here == 0)
		return;
	function = LookupFuncName(list_make2(makeString("pg_catalog"), makeString(LOCK_FUNCTION)), lengthof(types), types, false);
	PushActiveSnapshot(GetLatestSnapshot());	/* a function may run statements */
	saved = ps_switch_to_owner();
	(void) OidFunctionCall2(function, Int32GetDatum(ShareLock),
							PointerGetDatum(construct_array(ids, here, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)));
	ps_restore_user(saved);
	PopActiveSnapshot();
}

void
ps_shard_fence(void)
{
	uint64		before;

	do
	{
		ps_shards_look();
		before = ps_shards_changes();
		lock_here();
		AcceptInvalidationMessages();
		ps_shards_look();
	} while (ps_shards_changes() != before);
}

int64
ps_each_shard(PsShardStep step, void *arg)
{
	volatile int64 sum = 0;

	if (!ps_distributed())
		return step(arg);
	ps_shard_fence();
	PG_TRY();
	{
		for (int shard = 0; shard < ps_shards_count(); shard++)
		{
			if (!ps_shards_is_here(shard))
				continue;
			ps_shards_use(shard);
			sum += step(arg);
		}
	}
	PG_FINALLY();
	{
		ps_shards_use(PS_NO_SHARD);
	}
	PG_END_TRY();
	return sum;
}

bool
ps_shard_fence_use(int64 id)
{
	if (!ps_distributed())
		return false;
	ps_shard_fence();
	for (int shard = 0; shard < ps_shards_count(); shard++)
		if (ps_shards_id(shard, PS_SHARDED_PROFILES) == id && ps_shards_is_here(shard))
		{
			ps_shards_use(shard);
			return true;
		}
	return false;
}

void
ps_shard_fence_customer(const char *customer_id, int len)
{
	if (ps_distributed())
		ps_shard_fence();
	ps_shards_use_customer(customer_id, len);
}

void
ps_shard_check_here(int shard, const char *customer_id)
{
	if (!ps_shards_is_here(shard))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("customer \"%s\" is on another node", customer_id),
				 errhint("Call the function on %s. After a move of shards it is another one.", ps_shards_node(shard))));
}

void
ps_shard_keep_customer(const char *customer_id, int len)
{
	if (!ps_distributed())
		return;
	ps_shard_fence();
	ps_shard_check_here(ps_shards_find(customer_id, len), pnstrdup(customer_id, len));
}
