/*
 * score_function.c
 *	  A user's function that replaces the default scores: the checks before it is used,
 *	  and its calls.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "core/jsonb_size.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "scores/refresh.h"
#include "settings.h"
#include "store/confirmed_code.h"
#include "store/user_code.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

/* A member of the object that the function returned; NULL when it is missing or null. */
static JsonbValue *
get_member(Jsonb *result, const char *name, enum jbvType type, const char *kind)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&result->root, name, strlen(name), NULL);

	if (value == NULL || value->type == jbvNull)
		return NULL;
	if (value->type != type)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("%s must be a %s", name, kind)));
	return value;
}

/* Replaces default scores by the members that the function returned. */
static void
score_function_take_result(PsScores *scores, Jsonb *result)
{
	JsonbValue *value;

	if (!JB_ROOT_IS_OBJECT(result))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the score function must return a JSON object")));
	if ((value = get_member(result, "segment", jbvString, "string")) != NULL)
	{
		scores->segment = pnstrdup(value->val.string.val, value->val.string.len);
		if (value->val.string.len == 0 || value->val.string.len > PS_MAX_SEGMENT_BYTES)
			ereport(ERROR,
					(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
					 errmsg("segment must have 1 to %d bytes", PS_MAX_SEGMENT_BYTES)));
	}
	if ((value = get_member(result, "churnRiskScore", jbvNumeric, "number")) != NULL)
	{
		scores->churn_risk_score = DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(value->val.numeric)));
		if (!(scores->churn_risk_score >= 0 && scores->churn_risk_score <= 1))
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("churnRiskScore must be between 0 and 1")));
	}
	if ((value = get_member(result, "lifetimeValue", jbvNumeric, "number")) == NULL)
		return;
	if (!ps_jsonb_numbers_fit(value))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("lifetimeValue is out of range")));
	scores->lifetime_value = NumericGetDatum(value->val.numeric);
}

static Oid
score_function_owner(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* The function's owner can replace its body at any time. So he must have the rights with which it runs. */
static void
score_function_check_owner(Oid function, Oid role)
{
	if (!has_privs_of_role(score_function_owner(function), role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the owner of function %s does not have the rights of role \"%s\", with which it would run",
						format_procedure(function), GetUserNameFromId(role, false)),
				 errhint("Let the function's owner call set_score_function(), or give the function to a role that has these rights.")));
}

void
ps_score_function_check(Oid function, Oid role)
{
	Oid		   *types;
	int			ntypes;

	(void) score_function_owner(function);	/* raises when there is no such function */
	if (get_func_prokind(function) != PROKIND_FUNCTION || get_func_retset(function) ||
		get_func_signature(function, &types, &ntypes) != JSONBOID || ntypes != 1 || types[0] != JSONBOID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("a score function must be a function of one jsonb that returns jsonb"),
				 errhint("It takes a profile as get_profile() returns it, and returns an object with segment, churnRiskScore and lifetimeValue.")));
	if (func_volatile(function) == PROVOLATILE_VOLATILE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("a score function must be STABLE or IMMUTABLE"),
				 errhint("Declare it with ALTER FUNCTION ... STABLE, and let it write nothing.")));
	if (ps_function_aclcheck(function, role, ACL_EXECUTE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s", format_procedure(function))));
	score_function_check_owner(function, role);
}

void
ps_score_function_call(PsRefresh *refresh, PsScored **profiles, int n)
{
	PsRole		back = ps_role_become(refresh->function_owner);
	Datum	   *results = palloc(n * sizeof(Datum));
	FmgrInfo	function;

	ps_role_fix_settings();
	fmgr_info(refresh->function, &function);
	for (int i = 0; i < n; i++)
	{
		LOCAL_FCINFO(fcinfo, 1);

		CHECK_FOR_INTERRUPTS();
		results[i] = (Datum) 0;
		if (!profiles[i]->found)
			continue;
		if (profiles[i]->slow)
			ereport(ERROR,
					(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					 errmsg("the score function took longer than profile_stream.handler_timeout")));
		refresh->calling = profiles[i];
		ps_refresh_begin_code("the score function", ps_handler_timeout_ms, "profile_stream.handler_timeout");
		InitFunctionCallInfoData(*fcinfo, &function, 1, InvalidOid, NULL, NULL);
		fcinfo->args[0].value = profiles[i]->document;
		fcinfo->args[0].isnull = false;
		results[i] = FunctionCallInvoke(fcinfo);
		ps_refresh_end_code();
		if (fcinfo->isnull)
			results[i] = (Datum) 0;
	}
	ps_role_return(back);
	for (int i = 0; i < n; i++)
		if (results[i] != (Datum) 0)
			score_function_take_result(&profiles[i]->new, DatumGetJsonbP(results[i]));
}

void
ps_score_function_get(PsRefresh *refresh)
{
	PsScoreFunction found;

	refresh->function = InvalidOid;
	if (!ps_score_function_find(&found))
		return;
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(found.owner)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the role with whose rights the score function runs is gone"),
				 errhint("A superuser sets it again with set_score_function(), or removes it with set_score_function(NULL).")));
	if (!found.confirmed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the score function %s is not confirmed", found.function),
				 errhint(PS_CONFIRM_HINT)));
	refresh->function = DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum(found.function)));
	refresh->function_owner = found.owner;
	ps_score_function_check(refresh->function, refresh->function_owner);
}
