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
#include "nodes/primnodes.h"
#include "nodes/supportnodes.h"
#include "settings.h"
#include "store/distributed.h"
#include "store/extension.h"
#include "store/node_calls.h"
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

PS_FUNCTION(ps_on_nodes);
static Datum
ps_on_nodes_checked(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);
	FuncExpr   *call;
	Oid			internal;

	if (!IsA(request, SupportRequestSimplify) || !ps_distributed() || ps_node_call_is_running())
		PG_RETURN_POINTER(NULL);
	internal = find_internal(((SupportRequestSimplify *) request)->fcall->funcid);
	if (!OidIsValid(internal))
		PG_RETURN_POINTER(NULL);
	call = copyObject(((SupportRequestSimplify *) request)->fcall);
	call->funcid = internal;
	PG_RETURN_POINTER(call);
}

/* Runs a call on this node; for whoever calls it on all nodes. */
PS_FUNCTION(ps_run_here);
static Datum
ps_run_here_checked(PG_FUNCTION_ARGS)
{
	Datum		result;

	SPI_connect();
	result = ps_node_call_run(text_to_cstring(PG_GETARG_TEXT_PP(0)), &fcinfo->isnull);
	if (!fcinfo->isnull)
		result = SPI_datumTransfer(result, false, -1);
	SPI_finish();
	return result;
}

/* Raises in a transaction block: what other nodes have committed cannot be rolled back with it. */
PS_FUNCTION(ps_check_no_transaction);
static Datum
ps_check_no_transaction_checked(PG_FUNCTION_ARGS)
{
	PreventInTransactionBlock(true, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}
