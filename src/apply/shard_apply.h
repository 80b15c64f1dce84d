/*
 * shard_apply.h
 *	  Applies messages of distributed profiles: those of a shard after those of another, each
 *	  by the tables of the shard itself.
 */
#ifndef PS_SHARD_APPLY_H
#define PS_SHARD_APPLY_H

#include "apply/apply.h"

/* The shard of a decoded item; PS_NO_SHARD: its customer is not known. */
extern int	ps_shard_of_item(const PsApplyItem *item);

/*
 * Applies decoded items of a session, without those that have an outcome. Raises when a customer is on another node. The
 * order of the items of a customer counts, and no other.
 */
extern void ps_apply_items_by_shard(PsApplyItem *items, int n, const PsApplySettings *settings);

/* Applies items that belong to one shard, or with PS_NO_SHARD to none. */
extern void ps_apply_items_of_shard(PsApplyItem *items, int n, int shard, const PsApplySettings *settings);

#endif							/* PS_SHARD_APPLY_H */
