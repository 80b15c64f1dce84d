/*
 * forward.c
 *	  Sends each node the events of its customers in one call, with the rights of the
 *	  caller. The node applies them in a transaction of its own. That cannot be the
 *	  caller's: two nodes commit together only by a prepared transaction, and PostgreSQL
 *	  prepares none that notifies. So nothing is forwarded when the caller's transaction
 *	  has done something else, which could still be rolled back.
 *
 *	  An event that was forwarded and is sent again, because another node failed or nobody
 *	  heard the answer, is a duplicate.
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/forward.h"
#include "apply/shard_apply.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "store/shard_call.h"
#include "store/shards.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#define CITUS_APPLICATION "citus_internal"	/* what Citus calls its connections between nodes */

/* A call that is under way, for the context of its errors. */
typedef struct Forwarding
{
	const char *node;
	int			n;
} Forwarding;

static void
describe_forwarding(void *arg)
{
	const Forwarding *forwarding = arg;

	errcontext("applying %d of the events on %s; others may be applied already, and are duplicates when they are sent again", forwarding->n, forwarding->node);
}

/* The shard of an item, if that is on another node and another node did not send the item; else PS_NO_SHARD. */
static int
shard_elsewhere(const PsApplyItem *item)
{
	int			shard = ps_shard_of_item(item);

	if (shard == PS_NO_SHARD || ps_shards_is_here(shard) || strncmp(application_name, CITUS_APPLICATION, strlen(CITUS_APPLICATION)) == 0)
		return PS_NO_SHARD;
	return shard;
}

/* Raises unless the statement is all that its transaction does, as far as one can know. */
static void
check_is_alone(Oid function, const PsApplyItem *item, int shard)
{
	LOCAL_FCINFO(fcinfo, 0);

	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	if (IsInTransactionBlock(true) || TransactionIdIsValid(GetTopTransactionIdIfAny()) || DatumGetInt32(pg_trigger_depth(fcinfo)) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("customer \"%s\" is on another node, which commits by itself", item->owner->customer_id),
				 errhint("Call %s() in a statement of its own, outside of transaction blocks and triggers; or call it on %s.", get_func_name(function), ps_shards_node(shard))));
	PreventInTransactionBlock(true, get_func_name(function));	/* commits after this statement, also where the client
																 * sends several at once */
}

static Datum
call_node(Oid function, int shard, Datum arg, int n)
{
	Forwarding	forwarding = {ps_shards_node(shard), n};
	ErrorContextCallback callback = {error_context_stack, describe_forwarding, &forwarding};
	NullableDatum args[] = {{arg, false}};
	Datum		result;

	error_context_stack = &callback;	/* PG_CATCH takes it off */
	result = ps_shard_call_elsewhere(function, shard, args, false);
	error_context_stack = callback.previous;
	return result;
}

/* The outcome that another node calls so. */
static PsOutcome
outcome_of_name(const char *name)
{
	for (int outcome = 0; outcome < PS_OUTCOMES; outcome++)
		if (ps_outcome_names[outcome] != NULL && strcmp(ps_outcome_names[outcome], name) == 0)
			return outcome;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("another node says that an event is \"%s\"", name),
			 errhint("All nodes need the same version of profile_stream.")));
}

/* Sends the events of one node there: those at the places. */
static void
forward_to_node(Oid function, PsApplyItem *items, const Datum *events, const int *places, int n, int shard)
{
	Datum	   *values = palloc(n * sizeof(Datum));
	Datum	   *names;
	bool	   *nulls;
	int			nnames;

	for (int i = 0; i < n; i++)
		values[i] = events[places[i]];
	deconstruct_array(DatumGetArrayTypeP(call_node(function, shard, PointerGetDatum(construct_array(values, n, JSONBOID, -1, false, TYPALIGN_INT)), n)),
					  TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &nnames);
	if (nnames != n)
		elog(ERROR, "another node returned %d outcomes of %d events", nnames, n);
	for (int i = 0; i < n; i++)
		items[places[i]].outcome = outcome_of_name(TextDatumGetCString(names[i]));
}

void
ps_forward_events(Oid function, PsApplyItem *items, const Datum *events, int n)
{
	int		   *node_of = palloc(n * sizeof(int));	/* the first shard of the node */
	int		   *places = palloc(n * sizeof(int));

	ps_shards_look();
	for (int i = 0; i < n; i++)
	{
		node_of[i] = shard_elsewhere(&items[i]);
		if (node_of[i] == PS_NO_SHARD)
			continue;
		check_is_alone(function, &items[i], node_of[i]);
		node_of[i] = ps_shards_first_beside(node_of[i]);
	}
	for (int from = 0; from < n; from++)
	{
		int			nplaces = 0;

		if (node_of[from] == PS_NO_SHARD || items[from].outcome != PS_PENDING)
			continue;
		for (int i = from; i < n; i++)
			if (node_of[i] == node_of[from])
				places[nplaces++] = i;
		forward_to_node(function, items, events, places, nplaces, node_of[from]);
	}
}

int
ps_forward_shard(const PsApplyItem *item)
{
	ps_shards_look();
	return shard_elsewhere(item);
}

Datum
ps_forward_event(Oid function, const PsApplyItem *item, Datum event)
{
	int			shard = ps_forward_shard(item);

	if (shard == PS_NO_SHARD)
		return (Datum) 0;
	check_is_alone(function, item, shard);
	return call_node(function, ps_shards_first_beside(shard), event, 1);
}
