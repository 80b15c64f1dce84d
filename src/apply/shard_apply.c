/*
 * shard_apply.c
 *	  All transactions take shards in the same order, and then the customers of a shard:
 *	  so no two wait for each other.
 */
#include "postgres.h"

#include "apply/shard_apply.h"
#include "store/shard_fence.h"
#include "store/shards.h"

void
ps_apply_items_of_shard(PsApplyItem *items, int n, int shard, const PsApplySettings *settings)
{
	PG_TRY();
	{
		ps_shards_use(shard);
		ps_apply_items(items, n, settings);
	}
	PG_CATCH();
	{
		ps_shards_use(PS_NO_SHARD);
		PG_RE_THROW();
	}
	PG_END_TRY();
	ps_shards_use(PS_NO_SHARD);
}

/* The shard of an item; raises when it is on another node. */
static int
shard_of_item(const PsApplyItem *item)
{
	int			shard;

	if (item->owner == NULL)
		return PS_NO_SHARD;
	shard = ps_shards_find(item->owner->customer_id, item->owner->customer_id_len);
	if (!ps_shards_is_here(shard))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("customer \"%s\" is on another node", item->owner->customer_id),
				 errhint("Call the function on %s. After a move of shards it is another one.", ps_shards_node(shard))));
	return shard;
}

void
ps_apply_items_by_shard(PsApplyItem *items, int n, const PsApplySettings *settings)
{
	int		   *shard_of = palloc(n * sizeof(int));
	int		   *place = palloc(n * sizeof(int));
	PsApplyItem *some = palloc(n * sizeof(PsApplyItem));

	ps_shard_fence();
	for (int i = 0; i < n; i++)
		shard_of[i] = shard_of_item(&items[i]);
	for (int shard = PS_NO_SHARD; shard < ps_shards_count(); shard++)
	{
		int			nsome = 0;

		for (int i = 0; i < n; i++)
			if (shard_of[i] == shard)
			{
				place[nsome] = i;
				some[nsome++] = items[i];
			}
		if (nsome > 0)
			ps_apply_items_of_shard(some, nsome, shard, settings);
		for (int i = 0; i < nsome; i++)
			items[place[i]] = some[i];
	}
}
