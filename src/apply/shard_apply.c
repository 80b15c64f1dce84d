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

int
ps_shard_of_item(const PsApplyItem *item)
{
	return item->owner == NULL ? PS_NO_SHARD : ps_shards_find(item->owner->customer_id, item->owner->customer_id_len);
}

/* The shard of an item that must be here, or none. */
static int
shard_here(const PsApplyItem *item)
{
	int			shard = ps_shard_of_item(item);

	if (shard != PS_NO_SHARD)
		ps_shard_check_here(shard, item->owner->customer_id);
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
		if (items[i].outcome == PS_PENDING)
			shard_of[i] = shard_here(&items[i]);
	for (int shard = PS_NO_SHARD; shard < ps_shards_count(); shard++)
	{
		int			nsome = 0;

		for (int i = 0; i < n; i++)
			if (items[i].outcome == PS_PENDING && shard_of[i] == shard)
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
