/*
 * shard_call.c
 *	  Calls functions on the node that has the shard of a customer.
 *
 *	  Citus sends the call there, because the statement is on one row of the shard. That
 *	  row is there for every customer, also for one without a profile.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/parallel.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "store/shard_call.h"
#include "store/shards.h"
#include "store/xact.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* A statement that calls a function on another node. */
typedef struct ForwardedCall
{
	struct ForwardedCall *next;
	Oid			function;
	int			nargs;
	SPIPlanPtr	plan;
} ForwardedCall;

static ForwardedCall *forwarded = NULL;

/* Whether a function returns rows: as many as it likes, or one. */
static bool
returns_rows(Oid function)
{
	return get_func_retset(function) || get_func_rettype(function) == RECORDOID;
}

/* $1 is the slot of the shard; the arguments of the function follow. */
static char *
call_statement(Oid function, int nargs)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, returns_rows(function) ? "SELECT f.* FROM profile_stream_internal.shard_offsets o CROSS JOIN LATERAL %s(" : "SELECT %s(",
					 quote_qualified_identifier(get_namespace_name(get_func_namespace(function)), get_func_name(function)));
	for (int i = 0; i < nargs; i++)
		appendStringInfo(&text, "%s$%d", i > 0 ? ", " : "", i + 2);
	appendStringInfo(&text, returns_rows(function) ? ") f" : ") FROM profile_stream_internal.shard_offsets o");
	appendStringInfoString(&text, " WHERE o.slot OPERATOR(pg_catalog.=) $1 AND o.stream_id OPERATOR(pg_catalog.=) 0");
	return text.data;
}

/* The kept statement of a function. */
static const ForwardedCall *
forwarded_call(Oid function)
{
	ForwardedCall *call;
	Oid			types[FUNC_MAX_ARGS + 1] = {TEXTOID};
	Oid		   *argtypes;

	for (call = forwarded; call != NULL; call = call->next)
		if (call->function == function)
			return call;
	call = MemoryContextAllocZero(TopMemoryContext, sizeof(ForwardedCall));
	call->function = function;
	(void) get_func_signature(function, &argtypes, &call->nargs);
	memcpy(types + 1, argtypes, call->nargs * sizeof(Oid));
	/* Citus plans a statement on one row of one table without its arguments, but no other */
	call->plan = SPI_prepare_cursor(call_statement(function, call->nargs), call->nargs + 1, types,
									returns_rows(function) ? CURSOR_OPT_CUSTOM_PLAN : CURSOR_OPT_GENERIC_PLAN);
	if (call->plan == NULL || SPI_keepplan(call->plan) != 0)
		elog(ERROR, "could not prepare the call of %s(): %s", get_func_name(function), SPI_result_code_string(SPI_result));
	call->next = forwarded;
	forwarded = call;
	return call;
}

/* Copies the rows of the last result into that of the function. */
static void
forwarded_rows(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	for (uint64 i = 0; i < SPI_processed; i++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
}

/* The value of the last result, in a context that outlives it. */
static Datum
forwarded_value(Oid function, bool *isnull, MemoryContext caller)
{
	Datum		value;
	int16		typlen;
	bool		typbyval;

	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the shard of the customer has " UINT64_FORMAT " rows of its own in shard_offsets, not one", SPI_processed),
				 errhint("profile_stream.distribute() makes them; nobody else writes there.")));
	MemoryContextSwitchTo(caller);
	if (returns_rows(function))
	{
		*isnull = false;
		return heap_copy_tuple_as_datum(SPI_tuptable->vals[0], BlessTupleDesc(SPI_tuptable->tupdesc));
	}
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, isnull);
	if (*isnull)
		return (Datum) 0;
	get_typlenbyval(get_func_rettype(function), &typlen, &typbyval);
	return datumCopy(value, typbyval, typlen);
}

/* Runs the statement of a call. SPI is connected. */
static void
run_forwarded(Oid function, const char *slot, const NullableDatum *args, bool read_only)
{
	Datum		values[FUNC_MAX_ARGS + 1] = {CStringGetTextDatum(slot)};
	char		nulls[FUNC_MAX_ARGS + 1] = {' '};
	const ForwardedCall *call = forwarded_call(function);
	int			nest_level = NewGUCNestLevel();

	for (int i = 0; i < call->nargs; i++)
	{
		values[i + 1] = args[i].value;
		nulls[i + 1] = args[i].isnull ? 'n' : ' ';
	}
	/* a SELECT is a transaction of its own on the node, unless there is a transaction block */
	ps_guc_set_nested("citus.function_opens_transaction_block", "off");
	if (SPI_execute_plan(call->plan, values, nulls, read_only, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not call %s() on another node", get_func_name(function));
	AtEOXact_GUC(true, nest_level);
}

/* Calls the function that is called on the node of a shard, with the same arguments. */
static Datum
forward_call(FunctionCallInfo fcinfo, int shard, bool read_only)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			function = fcinfo->flinfo->fn_oid;
	bool		is_set = get_func_retset(function);
	Datum		value = (Datum) 0;

	if (IsParallelWorker())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s() cannot ask another node in a parallel worker", get_func_name(function)),
				 errhint("SET max_parallel_workers_per_gather = 0.")));
	if (is_set)
		InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	run_forwarded(function, ps_shards_slot(shard), fcinfo->args, read_only);
	if (is_set)
		forwarded_rows(fcinfo);
	else
		value = forwarded_value(function, &fcinfo->isnull, caller);
	SPI_finish();
	MemoryContextSwitchTo(caller);
	return value;
}

Datum
ps_shard_call_there(FunctionCallInfo fcinfo, int shard)
{
	return forward_call(fcinfo, shard, false);
}

Datum
ps_shard_call_elsewhere(Oid function, int shard, const NullableDatum *args, bool read_only)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum		value;
	bool		isnull;

	SPI_connect();
	run_forwarded(function, ps_shards_slot(shard), args, read_only);
	value = forwarded_value(function, &isnull, caller);
	if (isnull)
		elog(ERROR, "%s() of another node returned nothing", get_func_name(function));
	SPI_finish();
	MemoryContextSwitchTo(caller);
	return value;
}

/* The customer of a call; NULL: the argument is null. */
static const text *
customer_of_call(FunctionCallInfo fcinfo)
{
	Datum		value = fcinfo->args[0].value;
	bool		isnull = fcinfo->args[0].isnull;
	Oid		   *types;
	int			ntypes;

	(void) get_func_signature(fcinfo->flinfo->fn_oid, &types, &ntypes);
	if (!isnull && types[0] != TEXTOID)
		value = GetAttributeByNum(DatumGetHeapTupleHeader(value), 1, &isnull);
	return isnull ? NULL : DatumGetTextPP(value);
}

Datum
ps_shard_call(FunctionCallInfo fcinfo, PGFunction function)
{
	const text *customer_id = customer_of_call(fcinfo);
	int			before = ps_shards_used();
	volatile Datum result = (Datum) 0;
	int			shard;

	if (customer_id == NULL)
		return function(fcinfo);
	shard = ps_shards_find(VARDATA_ANY(customer_id), VARSIZE_ANY_EXHDR(customer_id));
	if (!ps_shards_is_here(shard))
		return forward_call(fcinfo, shard, true);
	ps_shards_use(shard);
	PG_TRY();
	{
		result = function(fcinfo);
	}
	PG_FINALLY();
	{
		ps_shards_use(before);
	}
	PG_END_TRY();
	return result;
}
