/*
 * confirm.c
 *	  confirm_code(), and code_state() for the view stat_code.
 *
 *	  Users' code that came by a restore or a subscription runs only after it was
 *	  confirmed: whoever made the dump could otherwise have code run as somebody else.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "api/caller.h"
#include "catalog/pg_proc.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "store/confirmed_code.h"
#include "store/coordinator_calls.h"
#include "store/extension.h"
#include "store/function.h"
#include "store/rule_catalog.h"
#include "store/segment_catalog.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

/* The owner of a function by its name; InvalidOid when it does not exist. */
static Oid
function_owner(const char *name)
{
	PsSavedUser saved = ps_switch_to_owner();	/* the caller may lack USAGE on its schema */
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(ps_function_find(name)));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
		ReleaseSysCache(tuple);
	}
	ps_restore_user(saved);
	return owner;
}

PG_FUNCTION_INFO_V1(ps_code_state);
Datum
ps_code_state(PG_FUNCTION_ARGS)
{
	const char *state = "ok";
	Oid			owner = PG_ARGISNULL(1) ? InvalidOid : PG_GETARG_OID(1);

	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(owner)))
		state = "no_owner";
	else if (PG_ARGISNULL(2) || !PG_GETARG_BOOL(2))
		state = "unconfirmed";
	else if (!PG_ARGISNULL(0))
	{
		Oid			now = function_owner(text_to_cstring(PG_GETARG_TEXT_PP(0)));

		state = !OidIsValid(now) ? "no_function" : now != owner ? "other_owner" : "ok";
	}
	PG_RETURN_TEXT_P(cstring_to_text(state));
}

/* Whether the caller may confirm code: he must be able to act as the role with whose rights it runs. */
static bool
may_confirm(const PsDefinition *definition)
{
	return superuser() || (SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(definition->owner)) &&
						   has_privs_of_role(GetUserId(), definition->owner));
}

static const char *const kinds[] = {"handler", "upcaster", "decoder", "score_function", "segment", "backfill"};

/* Raises unless there is code of that kind and name, confirmed or not: nothing to confirm is no mistake, a typo is one. Needs SPI. */
static void
check_code(const char *kind, const char *name)
{
	if (kind != NULL)
		ps_check_word("kind", kind, kinds, lengthof(kinds));
	/* a node that was added needs no code that came to others by a restore */
	if (name != NULL && !ps_coordinator_calls_running() && !ps_code_exists(kind, name))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no %s \"%s\"", kind == NULL ? "code" : kind, name),
				 errhint("SELECT kind, name FROM profile_stream.stat_code shows which there is.")));
}

PS_FUNCTION(ps_confirm_code);
static Datum
ps_confirm_code_checked(PG_FUNCTION_ARGS)
{
	char	   *kind = ps_get_string(fcinfo, 0);
	char	   *name = ps_get_string(fcinfo, 1);
	List	   *definitions;
	ListCell   *cell;
	int			confirmed = 0;

	PreventCommandIfReadOnly("confirm_code()");
	SPI_connect();
	check_code(kind, name);
	definitions = ps_unconfirmed(kind, name);
	foreach(cell, definitions)
	{
		const PsDefinition *definition = lfirst(cell);

		if (!may_confirm(definition))
		{
			if (name != NULL)
				ereport(ERROR,
						(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						 errmsg("must be owner of %s \"%s\"", definition->kind, definition->name),
						 errhint("It would run with the rights of its owner. That role or a superuser confirms it.")));
			continue;
		}
		ps_confirm(definition->kind, definition->key);
		if (strcmp(definition->kind, "segment") == 0)
			ps_segment_renew(definition->key);
		confirmed++;
	}
	if (confirmed > 0)
	{
		ps_rules_tell();
		ps_stream_tell_workers();	/* so that streams that wait for the code try again at once */
	}
	SPI_finish();
	PG_RETURN_INT32(confirmed);
}
