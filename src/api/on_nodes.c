/*
 * on_nodes.c
 *	  Replaces calls of SQL functions that read profiles, where Citus has distributed these.
 *
 *	  PostgreSQL puts the statement of such a function into the query that calls it, so that
 *	  conditions of the query come first. It does so after Citus has looked for distributed
 *	  tables in the query, and Citus then refuses. There the function of the same name and
 *	  arguments in the internal schema is called instead. It runs the statement by itself,
 *	  or has each node run the function on what that has.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "nodes/supportnodes.h"
#include "settings.h"
#include "store/distributed.h"
#include "store/extension.h"
#include "store/node_calls.h"
#include "store/shard_fence.h"
#include "store/shards.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

/* The function of the same name and arguments in the internal schema. */
static Oid
find_internal(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	Oid			found;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	found = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, NameGetDatum(&proc->proname), PointerGetDatum(&proc->proargtypes),
							ObjectIdGetDatum(get_namespace_oid(PS_INTERNAL_SCHEMA, false)));
	ReleaseSysCache(tuple);
	return found;
}

/* Whether a query reads a table that is distributed. */
static bool
reads_profiles(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
		return ((RangeTblEntry *) node)->rtekind == RTE_RELATION && ps_distributed_by_us(((RangeTblEntry *) node)->relid);
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, reads_profiles, arg, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, reads_profiles, arg);
}

/*
 * Whether a function may be called in a statement. Other nodes make their parts of a bookmark
 * when it is called, and not by a snapshot of the statement: rows that it has read before may
 * be older than the bookmark.
 */
static bool
may_be_called(const SupportRequestSimplify * request)
{
	PlannerInfo *root = request->root;

	if (request->fcall->args != NIL)
		return true;
	while (root != NULL && root->parent_root != NULL)
		root = root->parent_root;
	return root != NULL && !reads_profiles((Node *) root->parse, NULL);
}

PS_FUNCTION(ps_on_nodes);
static Datum
ps_on_nodes_checked(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);
	FuncExpr   *call;
	Oid			internal;

	if (!IsA(request, SupportRequestSimplify) || !ps_distributed() || ps_node_call_is_running())
		PG_RETURN_POINTER(NULL);
	if (!may_be_called((SupportRequestSimplify *) request))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("profile_bookmark() cannot be in a statement that reads distributed profiles"),
				 errhint("Call it in a statement before that one.")));
	internal = find_internal(((SupportRequestSimplify *) request)->fcall->funcid);
	if (!OidIsValid(internal))
		PG_RETURN_POINTER(NULL);
	call = copyObject(((SupportRequestSimplify *) request)->fcall);
	call->funcid = internal;
	PG_RETURN_POINTER(call);
}

/* A function that is a definition in SQL: where all nodes run it, the gate sends the call. */
PS_FUNCTION(ps_call_internal);
static Datum
ps_call_internal_checked(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(call, FUNC_MAX_ARGS);
	FmgrInfo	function;

	fmgr_info(find_internal(fcinfo->flinfo->fn_oid), &function);
	InitFunctionCallInfoData(*call, &function, fcinfo->nargs, InvalidOid, NULL, NULL);
	memcpy(call->args, fcinfo->args, fcinfo->nargs * sizeof(NullableDatum));
	(void) FunctionCallInvoke(call);
	PG_RETURN_VOID();
}

/* Runs a call on this node; for whoever calls it on all nodes. */
PS_FUNCTION(ps_run_on_this_node);
static Datum
ps_run_on_this_node_checked(PG_FUNCTION_ARGS)
{
	Datum		result;

	/* a shard that moves must be on one of the nodes while they run the call */
	if (ps_distributed())
		ps_shard_fence();
	SPI_connect();
	result = ps_node_call_run(text_to_cstring(PG_GETARG_TEXT_PP(0)), &fcinfo->isnull);
	if (!fcinfo->isnull)
		result = SPI_datumTransfer(result, false, -1);
	SPI_finish();
	return result;
}

/* Whether the shard of a customer is here, for a call that run_on_this_node() runs. */
PS_FUNCTION(ps_has_customer);
static Datum
ps_has_customer_checked(PG_FUNCTION_ARGS)
{
	text	   *customer_id = PG_GETARG_TEXT_PP(0);

	PG_RETURN_BOOL(!ps_distributed() || ps_shards_is_here(ps_shards_find(VARDATA_ANY(customer_id), VARSIZE_ANY_EXHDR(customer_id))));
}

/* Raises in a transaction block: what other nodes have committed cannot be rolled back with it. */
PS_FUNCTION(ps_check_no_transaction);
static Datum
ps_check_no_transaction_checked(PG_FUNCTION_ARGS)
{
	PreventInTransactionBlock(true, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}
