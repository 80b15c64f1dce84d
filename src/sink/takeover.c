/*
 * takeover.c
 *	  Shuts out who had a shard before, see takeover.h.
 */
#include "postgres.h"

#include "sink/takeover.h"
#include "store/distributed.h"
#include "store/lock_wait.h"
#include "store/outbox.h"
#include "store/shard_fence.h"
#include "store/shards.h"
#include "utils/memutils.h"

bool
ps_takeover_matters(const PsRelay *relay)
{
	return ps_sinks[relay->sink->kind].content != PS_DELIVERS_DEAD_LETTERS && ps_distributed_lately();
}

bool
ps_takeover_is_done(const PsRelay *relay)
{
	return !ps_takeover_matters(relay) || relay->owned == ps_shards_reads();
}

void
ps_takeover_look(PsRelay *relay)
{
	PsSink	   *sink = relay->sink;
	List	   *others = NIL;
	ListCell   *cell;

	if (relay->taking_over || !ps_takeover_matters(relay) || (ps_takeover_is_done(relay) && !ps_shards_are_stale()))
		return;
	ps_relay_begin(relay);
	foreach(cell, ps_outbox_other_writers(relay->stream_id, sink->kind, sink->writer))
	{
		MemoryContext old = MemoryContextSwitchTo(relay->context);

		others = lappend(others, pstrdup(lfirst(cell)));
		MemoryContextSwitchTo(old);
	}
	relay->looked = ps_shards_reads();
	ps_relay_commit(relay);
	ps_lock_wait_over();
	if (others == NIL)
	{
		relay->owned = relay->looked;
		return;
	}
	relay->taking_over = true;
	sink->shut_out = others;
	sink->methods->disconnect(sink);
	relay->connecting = relay->connected = false;
}

void
ps_takeover_finish(PsRelay *relay)
{
	if (!relay->taking_over)
		return;
	ps_relay_begin(relay);
	ps_shard_fence();
	if (relay->looked == ps_shards_reads())
	{
		ps_outbox_take_over(relay->stream_id, relay->sink->kind, relay->sink->writer);
		relay->owned = relay->looked;
	}
	ps_relay_commit(relay);
	ps_lock_wait_over();
	list_free_deep(relay->sink->shut_out);
	relay->sink->shut_out = NIL;
	relay->taking_over = false;
}
