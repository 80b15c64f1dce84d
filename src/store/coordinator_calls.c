/*
 * coordinator_calls.c
 *	  A call is kept as a function and its arguments, and runs with the rights of who made
 *	  it: nobody else's code, and nobody else's rights, get into it when it is sent again.
 *
 *	  A node runs a call in a transaction of its own, before the coordinator commits. If the
 *	  coordinator then fails, the same call has to be made again: the nodes that have it
 *	  already pass over it, and refuse another one of its number.
 *
 *	  Operators may run a call on a node themselves, because the coordinator does so with their
 *	  rights. That gives them nothing that they may not do on the coordinator. The numbers
 *	  that they choose hold for this call, as the next one sets its own.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "compat.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "store/coordinator_calls.h"
#include "store/owner.h"
#include "store/plan.h"
#include "store/user_code.h"
#include "store/xact.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

static PsPlan ids_plan = {
	"SELECT ARRAY[(SELECT s.last_value + s.is_called::int FROM profile_stream.streams_stream_id_seq s),"
	" (SELECT s.last_value + s.is_called::int FROM profile_stream_internal.metric_series_series_id_seq s),"
	" (SELECT s.last_value + s.is_called::int FROM profile_stream_internal.attribute_maps_map_id_seq s)]"
};

static PsPlan set_ids_plan = {
	"SELECT pg_catalog.setval('profile_stream.streams_stream_id_seq', $1[1], false),"
	" pg_catalog.setval('profile_stream_internal.metric_series_series_id_seq', $1[2], false),"
	" pg_catalog.setval('profile_stream_internal.attribute_maps_map_id_seq', $1[3], false)",
	1, {INT8ARRAYOID}
};

static PsPlan lock_plan = {
	"LOCK TABLE ONLY profile_stream_internal.coordinator_calls IN SHARE ROW EXCLUSIVE MODE"
};

static PsPlan next_plan = {
	"SELECT COALESCE(pg_catalog.max(c.call_no), 0) + 1 FROM profile_stream_internal.coordinator_calls c"
};

static PsPlan find_plan = {
	"SELECT c.called_by = $2 AND c.function = $3 AND c.arguments = $4,"
	" pg_catalog.format('%s(%s) of %s', c.function, pg_catalog.array_to_string(c.arguments, ', ', 'NULL'), c.called_by)"
	" FROM profile_stream_internal.coordinator_calls c WHERE c.call_no = $1",
	4, {INT8OID, NAMEOID, NAMEOID, TEXTARRAYOID}
};

static PsPlan add_plan = {
	"INSERT INTO profile_stream_internal.coordinator_calls (call_no, called_by, function, arguments, ids, called_at)"
	" VALUES ($1, $2, $3, $4, $5, pg_catalog.clock_timestamp())",
	5, {INT8OID, NAMEOID, NAMEOID, TEXTARRAYOID, INT8ARRAYOID}
};

static PsPlan all_plan = {
	"SELECT c.call_no, c.called_by, c.function, c.arguments, c.ids FROM profile_stream_internal.coordinator_calls c ORDER BY c.call_no"
};

static bool running = false;

bool
ps_coordinator_calls_running(void)
{
	return running;
}

void
ps_coordinator_call_init(PsCoordinatorCall *call)
{
	char	   *role = GetUserNameFromId(GetUserId(), false);
	bool		isnull;
	Datum		ids;

	(void) ps_plan_run(&ids_plan, NULL, NULL, SPI_OK_SELECT);
	ids = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	call->ids = PointerGetDatum(DatumGetArrayTypePCopy(ids));
	call->called_by = DirectFunctionCall1(namein, CStringGetDatum(role));
}

/* The table is locked, so that no other call gets its number. */
static void
calls_store(const PsCoordinatorCall *call)
{
	Datum		args[5] = {Int64GetDatum(call->call_no), call->called_by, call->function, call->arguments, call->ids};

	ps_plan_write(&add_plan, args, NULL, SPI_OK_INSERT, 1, "coordinator_calls");
}

int64
ps_coordinator_calls_next(void)
{
	(void) ps_plan_run(&lock_plan, NULL, NULL, SPI_OK_UTILITY);
	return ps_plan_number(&next_plan, NULL);
}

void
ps_coordinator_calls_add(PsCoordinatorCall *call)
{
	call->call_no = ps_coordinator_calls_next();
	calls_store(call);
}

/* A value as a literal. */
static char *
call_literal(Oid type, Datum value)
{
	Oid			output;
	bool		is_varlena;

	getTypeOutputInfo(type, &output, &is_varlena);
	return quote_literal_cstr(OidOutputFunctionCall(output, value));
}

/* Runs a command of a call on the worker nodes, with the rights of the caller. Returns what they answer, without empty answers; raises unless all do. */
static char *
run_on_workers(const PsCoordinatorCall *call, const char *command)
{
	static const char sql[] = "SELECT success, pg_catalog.format('%s:%s: %s', nodename, nodeport, result) FROM pg_catalog.run_command_on_workers($1) WHERE NOT success OR result <> ''";
	Oid			types[1] = {TEXTOID};
	Datum		args[1];
	StringInfoData failed;
	StringInfoData answers;

	args[0] = CStringGetTextDatum(command);
	initStringInfo(&failed);
	initStringInfo(&answers);
	if (SPI_execute_with_args(sql, 1, types, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run a call on the nodes");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		StringInfo text = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)) ? &answers : &failed;

		appendStringInfo(text, "%s%s", text->len > 0 ? "\n" : "", ps_plan_text(i, 2));
	}
	if (failed.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("call " INT64_FORMAT " did not run on all nodes", call->call_no),
				 errdetail("%s", failed.data),
				 call->again == NULL ? errhint("Make the same call again when all nodes run; a node that has run it passes over it.") :
				 errhint("Call %s when all nodes run; a node that has run it passes over it.", call->again)));
	return answers.data;
}

bool
ps_coordinator_calls_has_begun(const char *function, const char *second)
{
	static const char sql[] = "SELECT FROM pg_catalog.run_command_on_workers($1) WHERE success AND result = 't' LIMIT 1";
	Oid			types[1] = {TEXTOID};
	Datum		args[1];

	args[0] = CStringGetTextDatum(psprintf("SELECT EXISTS (SELECT FROM profile_stream_internal.coordinator_calls c WHERE c.call_no = " INT64_FORMAT
										   " AND c.function = %s::name AND c.arguments[2] = %s)", ps_coordinator_calls_next(),
										   quote_literal_cstr(function), quote_literal_cstr(second)));
	if (SPI_execute_with_args(sql, 1, types, args, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not ask the nodes for a call");
	return SPI_processed > 0;
}

/* Raises when a node has another call of that number: if the others then ran this one, no call would run on all of them any more. */
static void
check_others(const PsCoordinatorCall *call)
{
	char	   *found = run_on_workers(call, psprintf("SELECT pg_catalog.format('it has run %%s(%%s) of %%s', c.function, pg_catalog.array_to_string(c.arguments, ', ', 'NULL'), c.called_by)"
													  " FROM profile_stream_internal.coordinator_calls c WHERE c.call_no = " INT64_FORMAT
													  " AND NOT (c.called_by = %s::name AND c.function = %s::name AND c.arguments = %s::text[])", call->call_no,
													  call_literal(NAMEOID, call->called_by), call_literal(NAMEOID, call->function),
													  call_literal(TEXTARRAYOID, call->arguments)));

	if (*found != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("not all nodes can run call " INT64_FORMAT ", because another one did not run on all of them", call->call_no),
				 errdetail("%s", found),
				 errhint("Make that call again when all nodes run. Then undo it if it is not wanted.")));
}

void
ps_coordinator_calls_send(const PsCoordinatorCall *call)
{
	check_others(call);
	(void) run_on_workers(call, psprintf("SELECT profile_stream_internal.run_coordinator_call(" INT64_FORMAT ", %s, %s, %s, %s)", call->call_no,
										 call_literal(NAMEOID, call->called_by), call_literal(NAMEOID, call->function),
										 call_literal(TEXTARRAYOID, call->arguments), call_literal(INT8ARRAYOID, call->ids)));
}

void
ps_coordinator_calls_send_all(void)
{
	uint64		n;
	SPITupleTable *rows;

	(void) ps_plan_run(&lock_plan, NULL, NULL, SPI_OK_UTILITY);
	n = ps_plan_run(&all_plan, NULL, NULL, SPI_OK_SELECT);
	rows = SPI_tuptable;
	for (uint64 i = 0; i < n; i++)
	{
		Datum		values[5];
		bool		isnull;
		PsCoordinatorCall call;

		for (int column = 0; column < lengthof(values); column++)
			values[column] = SPI_getbinval(rows->vals[i], rows->tupdesc, column + 1, &isnull);
		call = (PsCoordinatorCall)
		{
			DatumGetInt64(values[0]), values[1], values[2], values[3], values[4], NULL
		};
		ps_coordinator_calls_send(&call);
	}
}

/* Whether this node has run a call; raises when it has run another one of that number. */
static bool
calls_has(const PsCoordinatorCall *call)
{
	Datum		args[4] = {Int64GetDatum(call->call_no), call->called_by, call->function, call->arguments};
	bool		isnull;

	if (ps_plan_run(&find_plan, args, NULL, SPI_OK_SELECT) == 0)
		return false;
	if (!DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this node has run another call with number " INT64_FORMAT, call->call_no),
				 errdetail("It was %s, which did not run on all nodes.", ps_plan_text(0, 2)),
				 errhint("Make that call again on the coordinator. Then undo it there if it is not wanted.")));
	return true;
}

/* The function of a call, in the schema of the extension. */
static Oid
find_function(const PsCoordinatorCall *call)
{
	const char *name = NameStr(*DatumGetName(call->function));
	Oid			schema = ps_own_schema(false);
	CatCList   *list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
	ArrayType  *arguments = DatumGetArrayTypeP(call->arguments);
	int			nargs = ArrayGetNItems(ARR_NDIM(arguments), ARR_DIMS(arguments));
	Oid			found = InvalidOid;

	for (int i = 0; i < list->n_members; i++)
	{
		Form_pg_proc function = (Form_pg_proc) GETSTRUCT(&list->members[i]->tuple);

		if (function->pronamespace == schema && function->pronargs == nargs &&
			getExtensionOfObject(ProcedureRelationId, function->oid) == get_extension_oid("profile_stream", false))
			found = function->oid;
	}
	ReleaseSysCacheList(list);
	if (!OidIsValid(found))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("the extension has no function %s() with these arguments", name),
				 errhint("All nodes need the same version of profile_stream.")));
	if (ps_function_aclcheck(found, GetUserId(), ACL_EXECUTE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, name);
	return found;
}

/* Calls a function with arguments that are texts. */
static void
call_function(Oid function, Datum arguments)
{
	LOCAL_FCINFO(fcinfo, FUNC_MAX_ARGS);
	FmgrInfo	flinfo;
	Oid		   *types;
	int			ntypes;
	Datum	   *texts;
	bool	   *nulls;
	int			ntexts;
	int			nest_level;

	(void) get_func_signature(function, &types, &ntypes);
	deconstruct_array(DatumGetArrayTypeP(arguments), TEXTOID, -1, false, TYPALIGN_INT, &texts, &nulls, &ntexts);
	fmgr_info(function, &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, ntypes, InvalidOid, NULL, NULL);
	nest_level = ps_coordinator_calls_settings();
	for (int i = 0; i < ntypes; i++)
	{
		Oid			input;
		Oid			element;

		if (nulls[i] && flinfo.fn_strict)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument %d of a call is null", i + 1)));
		getTypeInputInfo(types[i], &input, &element);
		fcinfo->args[i].isnull = nulls[i];
		fcinfo->args[i].value = nulls[i] ? (Datum) 0 : OidInputFunctionCall(input, TextDatumGetCString(texts[i]), element, -1);
	}
	AtEOXact_GUC(true, nest_level);
	(void) FunctionCallInvoke(fcinfo);
}

/* Takes the rights of the role that made a call. The caller must have them. What restricts the caller stays. */
static void
become_caller(const PsCoordinatorCall *call, int context)
{
	const char *name = NameStr(*DatumGetName(call->called_by));
	Oid			role = get_role_oid(name, true);

	if (!OidIsValid(role))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\", which made call " INT64_FORMAT ", does not exist", name, call->call_no),
				 errhint("Create the role again, and grant it profile_stream_operator.")));
	if (!has_privs_of_role(GetUserId(), role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("call " INT64_FORMAT " runs with the rights of role \"%s\"", call->call_no, name),
				 errhint("A superuser can call profile_stream.distribute() on the coordinator, which runs it.")));
	SetUserIdAndSecContext(role, context | SECURITY_LOCAL_USERID_CHANGE);
}

/* An error ends the transaction, which gives the rights of the session back. */
static void
calls_execute(const PsCoordinatorCall *call)
{
	Oid			user;
	int			context;

	GetUserIdAndSecContext(&user, &context);
	become_caller(call, context);
	running = true;
	PG_TRY();
	{
		call_function(find_function(call), call->arguments);
	}
	PG_FINALLY();
	{
		running = false;
	}
	PG_END_TRY();
	SetUserIdAndSecContext(user, context);
}

int
ps_coordinator_calls_settings(void)
{
	int			nest_level = NewGUCNestLevel();

	ps_role_fix_settings();
	ps_guc_set_nested("extra_float_digits", "3");
	return nest_level;
}

void
ps_coordinator_calls_run(const PsCoordinatorCall *call)
{
	int64		next;
	Datum		ids = call->ids;

	(void) ps_plan_run(&lock_plan, NULL, NULL, SPI_OK_UTILITY);
	if (calls_has(call))
		return;
	next = ps_plan_number(&next_plan, NULL);
	if (next != call->call_no)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this node has not run calls " INT64_FORMAT " to " INT64_FORMAT, next, call->call_no - 1),
				 errhint("Call profile_stream.distribute() on the coordinator: it runs them here.")));
	(void) ps_plan_run(&set_ids_plan, &ids, NULL, SPI_OK_SELECT);
	calls_execute(call);
	calls_store(call);
}
