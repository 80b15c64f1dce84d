/*
 * function.c
 *	  Functions that users registered, called once for an event: planned when it is
 *	  first called, so that a function in SQL becomes an expression; run as its owner in
 *	  a security-restricted operation, with settings that are undone, until
 *	  profile_stream.handler_timeout.
 *
 *	  What a call leaves behind when it raises (user, settings, snapshots) is undone
 *	  by the subtransaction that the caller runs it in.
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "store/function.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#define SAFE_PATH "pg_catalog, pg_temp"

struct PsFunction
{
	const char *what;
	const char *name;
	const char *owner;			/* when it was registered */
	int			nargs;
	MemoryContext context;		/* of the plan */
	Expr	   *plan;
	Oid			owner_id;
	uint64		plan_version;
	ExprState  *state;
	uint64		state_run;
};

struct PsFunctionRun
{
	uint64		number;
	int			nest_level;		/* of the run's settings, 0: it has none */
	ExprContext *context;
};

typedef enum Ending
{
	NOT_ENDED,
	TOOK_TOO_LONG,
	SIGNALLED_ITSELF
} Ending;

static PsFunction *volatile called = NULL;
static volatile sig_atomic_t ending = NOT_ENDED;
static uint64 catalog_version = 1;	/* of all functions */
static uint64 runs = 0;
static TimeoutId timer = MAX_TIMEOUTS;
static bool timer_is_set = false;

PsFunction *
ps_function_make(const char *what, const char *name, const char *owner, int nargs)
{
	PsFunction *function = palloc0(sizeof(PsFunction));

	function->what = what;
	function->name = name;
	function->owner = owner;
	function->nargs = nargs;
	return function;
}

const char *
ps_function_title(const PsFunction *function)
{
	return psprintf("%s %s", function->what, function->name);
}

char *
ps_function_name(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	StringInfoData name;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	form = (Form_pg_proc) GETSTRUCT(tuple);
	initStringInfo(&name);
	appendStringInfo(&name, "%s(", quote_qualified_identifier(get_namespace_name(form->pronamespace), NameStr(form->proname)));
	for (int i = 0; i < form->pronargs; i++)
		appendStringInfo(&name, "%s%s", i > 0 ? "," : "", format_type_be(form->proargtypes.values[i]));
	appendStringInfoChar(&name, ')');
	ReleaseSysCache(tuple);
	return name.data;
}

Oid
ps_function_find(const char *name)
{
	LOCAL_FCINFO(call, 1);
	Datum		found;

	InitFunctionCallInfoData(*call, NULL, 1, InvalidOid, NULL, NULL);
	call->args[0].value = CStringGetTextDatum(name);
	call->args[0].isnull = false;
	found = to_regprocedure(call);
	return call->isnull ? InvalidOid : DatumGetObjectId(found);
}

void
ps_function_refuse_nested(const char *what)
{
	if (called != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s cannot be called by a handler or an upcaster", what),
				 errhint("Return what shall change in the profile instead.")));
}

/* The timer, in a signal handler; it ticks on, for a function that catches the first cancellation. */
static void
end_call(void)
{
	if (called == NULL)
		return;
	if (ending == NOT_ENDED)
		ending = TOOK_TOO_LONG;
	InterruptPending = true;
	QueryCancelPending = true;
}

bool
ps_function_signalled_itself(void)
{
	if (called == NULL)
		return false;
	ending = SIGNALLED_ITSELF;
	InterruptPending = true;
	QueryCancelPending = true;
	return true;
}

static void
functions_changed(Datum arg, int cache, uint32 hash)
{
	catalog_version++;
}

PsFunctionRun *
ps_function_begin(void)
{
	PsFunctionRun *run = palloc0(sizeof(PsFunctionRun));
	ParamListInfo params = makeParamList(2);

	if (timer == MAX_TIMEOUTS)
	{
		timer = RegisterTimeout(USER_TIMEOUT, end_call);
		CacheRegisterSyscacheCallback(PROCOID, functions_changed, (Datum) 0);
	}
	run->number = ++runs;
	if (strcmp(namespace_search_path, SAFE_PATH) != 0)
	{
		run->nest_level = NewGUCNestLevel();
		(void) set_config_option("search_path", SAFE_PATH, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	}
	memset(params->params, 0, 2 * sizeof(ParamExternData));
	params->params[0].ptype = params->params[1].ptype = JSONBOID;
	run->context = CreateStandaloneExprContext();
	run->context->ecxt_param_list_info = params;
	return run;
}

void
ps_function_end(PsFunctionRun *run)
{
	FreeExprContext(run->context, true);
	if (run->nest_level != 0)
		AtEOXact_GUC(true, run->nest_level);
}

MemoryContext
ps_function_memory(PsFunctionRun *run)
{
	return run->context->ecxt_per_tuple_memory;
}

void
ps_function_forget(PsFunctionRun *run)
{
	ResetExprContext(run->context);
}

/* Looks the function up again; it must still be what was registered, and its owner's who registered it. */
static Oid
look_up(PsFunction *function)
{
	Oid			oid = ps_function_find(function->name);
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	Form_pg_proc form;
	char	   *owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("%s does not exist", ps_function_title(function)),
				 errhint("Create it again, or unregister it.")));
	form = (Form_pg_proc) GETSTRUCT(tuple);
	function->owner_id = form->proowner;
	owner = GetUserNameFromId(form->proowner, true);
	if (owner == NULL || strcmp(owner, function->owner) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s has another owner than when it was registered", ps_function_title(function)),
				 errhint("Its owner may register it again.")));
	if (form->prorettype != JSONBOID || form->proretset || form->prokind != PROKIND_FUNCTION)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("%s does not return jsonb", ps_function_title(function))));
	ReleaseSysCache(tuple);
	return oid;
}

/* Plans the call, as the function's owner: only who may call a function has it inlined. */
static void
plan(PsFunction *function, Oid oid, uint64 version)
{
	MemoryContext caller;
	List	   *args = NIL;

	if (function->context == NULL)
		function->context = AllocSetContextCreate(GetMemoryChunkContext(function), "profile_stream function", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(function->context);
	function->plan = NULL;
	function->state = NULL;
	caller = MemoryContextSwitchTo(function->context);
	for (int i = 1; i <= function->nargs; i++)
	{
		Param	   *param = makeNode(Param);

		param->paramkind = PARAM_EXTERN;
		param->paramid = i;
		param->paramtype = JSONBOID;
		param->paramtypmod = -1;
		param->location = -1;
		args = lappend(args, param);
	}
	function->plan = expression_planner((Expr *) makeFuncExpr(oid, JSONBOID, args, InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL));
	function->plan_version = version;
	MemoryContextSwitchTo(caller);
}

/* Makes the function ready to be called; what is there is good as long as no function of the database changes. */
static void
prepare(PsFunctionRun *run, PsFunction *function, int context)
{
	MemoryContext caller;

	context |= SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION;
	if (function->plan == NULL || function->plan_version != catalog_version)
	{
		uint64		version = catalog_version;
		Oid			owner = get_role_oid(function->owner, true);

		/* whoever applies need not see its schema */
		if (OidIsValid(owner))
			SetUserIdAndSecContext(owner, context);
		plan(function, look_up(function), version);
	}
	SetUserIdAndSecContext(function->owner_id, context);
	if (function->state != NULL && function->state_run == run->number)
		return;
	caller = MemoryContextSwitchTo(run->context->ecxt_per_query_memory);
	function->state = ExecInitExprWithParams(function->plan, run->context->ecxt_param_list_info);
	function->state_run = run->number;
	MemoryContextSwitchTo(caller);
}

static void
set_timer(bool on)
{
	/* cheap: as long as an alarm is due that was set for an earlier call, no other is set */
	if (on && ps_handler_timeout_ms > 0)
		enable_timeout_every(timer, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ps_handler_timeout_ms), ps_handler_timeout_ms);
	else if (timer_is_set)
		disable_timeout(timer, false);
	timer_is_set = on && ps_handler_timeout_ms > 0;
}

/* Notes that a call is over; whether it was ended, of which nothing is left. */
static bool
note_over(void)
{
	set_timer(false);
	called = NULL;
	if (ending == NOT_ENDED)
		return false;
	QueryCancelPending = false;
	return true;
}

/* Why the call was ended, as the end of a sentence. */
static const char *
describe_ending(void)
{
	return ending == TOOK_TOO_LONG ? "took longer than profile_stream.handler_timeout" : "cancelled or terminated its own process";
}

Jsonb *
ps_function_call(PsFunctionRun *run, PsFunction *function, Jsonb *first, Jsonb *second)
{
	ParamExternData *params = run->context->ecxt_param_list_info->params;
	Oid			user;
	int			context;
	int			nest_level;
	MemoryContext caller;
	Datum		result;
	Jsonb	   *answer;
	bool		isnull;

	params[0].value = JsonbPGetDatum(first);
	params[1].value = JsonbPGetDatum(second);
	GetUserIdAndSecContext(&user, &context);
	ending = NOT_ENDED;
	called = function;
	nest_level = NewGUCNestLevel();
	prepare(run, function, context);
	set_timer(true);
	result = ExecEvalExprSwitchContext(function->state, run->context, &isnull);
	if (note_over())
	{
		called = function;
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("%s %s", ps_function_title(function), describe_ending())));
	}
	AtEOXact_GUC(false, nest_level);
	SetUserIdAndSecContext(user, context);
	if (isnull)
		return NULL;
	caller = MemoryContextSwitchTo(ps_function_memory(run));
	answer = DatumGetJsonbP(result);
	MemoryContextSwitchTo(caller);
	return answer;
}

const PsFunction *
ps_function_abort(const char **reason)
{
	PsFunction *function = called;

	*reason = NULL;
	if (function == NULL)
		return NULL;
	function->state = NULL;		/* it may have been left in the middle of something */
	if (note_over())
		*reason = describe_ending();
	return function;
}
