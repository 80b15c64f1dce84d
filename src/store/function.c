/*
 * function.c
 *	  Calls functions that users registered. A call is planned once, so that a
 *	  function in SQL can be inlined. It runs as the owner of the function in a
 *	  security-restricted operation, for at most profile_stream.handler_timeout, and
 *	  settings that it changes are undone. Settings that values depend on are fixed, so
 *	  that a stream, a session and a rebuild make the same of an event.
 *
 *	  When a call raises, the caller's subtransaction undoes what is left: user,
 *	  settings, snapshots.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "settings.h"
#include "store/confirmed_code.h"
#include "store/function.h"
#include "store/user_code.h"
#include "store/xact.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#define MAX_ARGS 3

/* What functions of each kind take. */
static const struct
{
	const char *what;
	int			nargs;
	Oid			argtypes[MAX_ARGS];
	const char *hint;
}			kinds[] = {
	[PS_HANDLER] = {"handler", 2, {JSONBOID, JSONBOID}, "A handler is a function(profile jsonb, event jsonb) RETURNS jsonb."},
	[PS_UPCASTER] = {"upcaster", 1, {JSONBOID}, "An upcaster is a function(event jsonb) RETURNS jsonb."},
	[PS_DECODER] = {"decoder", 3, {BYTEAOID, BYTEAOID, JSONBOID},
	"A decoder is a function(value bytea, key bytea, headers jsonb) RETURNS jsonb that is not STRICT: a message may have no key."}
};

struct PsFunction
{
	PsFunctionKind kind;
	const char *name;
	Oid			owner;			/* owner of the function when it was registered */
	bool		confirmed;
	MemoryContext context;		/* memory of the plan */
	Expr	   *plan;
	uint64		plan_version;
	ExprState  *state;
	uint64		state_run;
};

struct PsFunctionRun
{
	uint64		number;
	int			nest_level;		/* of settings */
	ExprContext *context;
};

static PsFunction *called = NULL;
static uint64 catalog_version = 1;	/* counts changes of any function in the database */
static uint64 runs = 0;
static bool watching = false;

PsFunction *
ps_function_make(PsFunctionKind kind, const char *name, Oid owner, bool confirmed)
{
	PsFunction *function = palloc0(sizeof(PsFunction));

	function->kind = kind;
	function->name = name;
	function->owner = owner;
	function->confirmed = confirmed;
	return function;
}

Oid
ps_function_check(PsFunctionKind kind, Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	bool		fits;
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	form = (Form_pg_proc) GETSTRUCT(tuple);
	fits = form->prokind == PROKIND_FUNCTION && !form->proretset && form->prorettype == JSONBOID && form->pronargs == kinds[kind].nargs &&
		!(kind == PS_DECODER && form->proisstrict);
	for (int i = 0; i < form->pronargs && fits; i++)
		fits = form->proargtypes.values[i] == kinds[kind].argtypes[i];
	owner = form->proowner;
	ReleaseSysCache(tuple);
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("function %s cannot be registered", ps_function_name(function)),
				 errhint("%s", kinds[kind].hint)));
	return owner;
}

const char *
ps_function_title(const PsFunction *function)
{
	return psprintf("%s %s", kinds[function->kind].what, function->name);
}

const char *
ps_function_under_way(void)
{
	return called ? ps_function_title(called) : NULL;
}

char *
ps_function_name(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	StringInfoData name;
	int			nest_level;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	form = (Form_pg_proc) GETSTRUCT(tuple);
	initStringInfo(&name);
	/* names are stored and compared: another one of the same function would make it run twice */
	nest_level = NewGUCNestLevel();
	ps_guc_set_nested("quote_all_identifiers", "off");
	appendStringInfo(&name, "%s(", quote_qualified_identifier(get_namespace_name(form->pronamespace), NameStr(form->proname)));
	for (int i = 0; i < form->pronargs; i++)
		appendStringInfo(&name, "%s%s", i > 0 ? "," : "", format_type_be(form->proargtypes.values[i]));
	appendStringInfoChar(&name, ')');
	AtEOXact_GUC(true, nest_level);
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
	if (ps_user_code_is_on())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s cannot be called by a handler or an upcaster", what),
				 errhint("Return the changed profile instead.")));
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
	ParamListInfo params = makeParamList(MAX_ARGS);

	if (!watching)
		CacheRegisterSyscacheCallback(PROCOID, functions_changed, (Datum) 0);
	watching = true;
	run->number = ++runs;
	run->nest_level = NewGUCNestLevel();
	ps_role_fix_settings();
	memset(params->params, 0, MAX_ARGS * sizeof(ParamExternData));
	run->context = CreateStandaloneExprContext();
	run->context->ecxt_param_list_info = params;
	return run;
}

void
ps_function_end(PsFunctionRun *run)
{
	FreeExprContext(run->context, true);
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

/* Looks up the function by its name. Raises unless it still has the owner and the result type that were registered. */
static Oid
look_up(PsFunction *function)
{
	Oid			oid = ps_function_find(function->name);
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	Form_pg_proc form;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("%s does not exist", ps_function_title(function)),
				 errhint("Create it again, or unregister it.")));
	form = (Form_pg_proc) GETSTRUCT(tuple);
	if (form->proowner != function->owner)
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

/* Plans the call as the function's owner: a function is inlined only for roles that may call it. */
static void
function_plan(PsFunction *function, Oid oid, uint64 version)
{
	MemoryContext caller;
	List	   *args = NIL;

	if (function->context == NULL)
		function->context = AllocSetContextCreate(GetMemoryChunkContext(function), "profile_stream function", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(function->context);
	function->plan = NULL;
	function->state = NULL;
	caller = MemoryContextSwitchTo(function->context);
	for (int i = 1; i <= kinds[function->kind].nargs; i++)
	{
		Param	   *param = makeNode(Param);

		param->paramkind = PARAM_EXTERN;
		param->paramid = i;
		param->paramtype = kinds[function->kind].argtypes[i - 1];
		param->paramtypmod = -1;
		param->location = -1;
		args = lappend(args, param);
	}
	function->plan = expression_planner((Expr *) makeFuncExpr(oid, JSONBOID, args, InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL));
	function->plan_version = version;
	MemoryContextSwitchTo(caller);
}

/* Prepares a call. An earlier plan is valid as long as no function of the database was changed. */
static void
function_prepare(PsFunctionRun *run, PsFunction *function, int context)
{
	MemoryContext caller;

	context |= SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION;
	if (function->plan == NULL || function->plan_version != catalog_version)
	{
		uint64		version = catalog_version;

		if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(function->owner)))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("the role that owned %s when it was registered is gone", ps_function_title(function)),
					 errhint("The owner of the function may register it again.")));
		/* as the owner, because the caller may have no right on the schema of the function */
		SetUserIdAndSecContext(function->owner, context);
		function_plan(function, look_up(function), version);
	}
	SetUserIdAndSecContext(function->owner, context);
	if (function->state != NULL && function->state_run == run->number)
		return;
	caller = MemoryContextSwitchTo(run->context->ecxt_per_query_memory);
	function->state = ExecInitExprWithParams(function->plan, run->context->ecxt_param_list_info);
	function->state_run = run->number;
	MemoryContextSwitchTo(caller);
}

/* Raises when the function is not confirmed. That is not the event's fault, so that the stream waits. */
static void
check_confirmed(const PsFunction *function)
{
	if (!function->confirmed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s is not confirmed", ps_function_title(function)),
				 errhint(PS_CONFIRM_HINT)));
}

Jsonb *
ps_function_call(PsFunctionRun *run, PsFunction *function, Jsonb *first, Jsonb *second)
{
	NullableDatum args[MAX_ARGS] = {{JsonbPGetDatum(first), first == NULL}, {JsonbPGetDatum(second), second == NULL}};

	return ps_function_call_args(run, function, args);
}

/* Passes the arguments of a call. */
static void
function_set_args(PsFunctionRun *run, const PsFunction *function, const NullableDatum *args)
{
	ParamExternData *params = run->context->ecxt_param_list_info->params;

	for (int i = 0; i < kinds[function->kind].nargs; i++)
	{
		params[i].ptype = kinds[function->kind].argtypes[i];
		params[i].value = args[i].value;
		params[i].isnull = args[i].isnull;
	}
}

Jsonb *
ps_function_call_args(PsFunctionRun *run, PsFunction *function, const NullableDatum *args)
{
	Oid			user;
	int			context;
	int			nest_level;
	MemoryContext caller;
	Datum		result;
	Jsonb	   *answer;
	bool		isnull;
	const char *ending;

	check_confirmed(function);
	function_set_args(run, function, args);
	GetUserIdAndSecContext(&user, &context);
	called = function;
	nest_level = NewGUCNestLevel();
	ps_user_code_begin(ps_handler_timeout_ms, "profile_stream.handler_timeout");
	function_prepare(run, function, context);
	result = ExecEvalExprSwitchContext(function->state, run->context, &isnull);
	ending = ps_user_code_end();
	if (ending != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("%s %s", ps_function_title(function), ending)));
	called = NULL;
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
	function->state = NULL;		/* the call may have left it in any condition */
	called = NULL;
	*reason = ps_user_code_end();
	return function;
}
