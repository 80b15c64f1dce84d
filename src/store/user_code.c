/*
 * user_code.c
 *	  Restricts code of users while it runs in a process of ours.
 *
 *	  Time: a timer cancels the code. The code can catch the cancellation; so the timer
 *	  fires a second time and ends the process, which cannot be caught. It also runs
 *	  while the code is planned, because planning calls IMMUTABLE functions of
 *	  constants.
 */
#include "postgres.h"

#include <signal.h>

#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "compat.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "settings.h"
#include "storage/ipc.h"
#include "store/rebuild_schema.h"
#include "store/user_code.h"
#include "store/xact.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

typedef enum Ending
{
	NOT_ENDED,
	TOOK_TOO_LONG,
	SIGNALLED_ITSELF,
	GAVE_UP
} Ending;

static volatile sig_atomic_t is_on = false;
static volatile sig_atomic_t ending = NOT_ENDED;
static TimeoutId timer = MAX_TIMEOUTS;
static bool timer_is_set = false;
static const char *limit;		/* name of the setting with the limit */
static object_access_hook_type next_access_hook = NULL;
static ExecutorCheckPerms_hook_type next_perms_hook = NULL;

/* Refuses functions that take or release advisory locks of the session. */
static void
check_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (is_on && access == OAT_FUNCTION_EXECUTE &&
		object_id >= F_PG_ADVISORY_LOCK_INT8 && object_id <= F_PG_ADVISORY_UNLOCK_ALL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s() cannot be called by code that profile_stream calls", get_func_name(object_id)),
				 errhint("Use pg_advisory_xact_lock(): a lock of the session would outlast the call.")));
	if (next_access_hook)
		next_access_hook(access, class_id, object_id, sub_id, arg);
}

/* Whether the process has rows of a table in memory and will write them later. */
static bool
is_worked_on(Oid relid)
{
	static const char *const tables[] = {"materialized_profiles", "window_chunks", "event_id_chunks", "stream_offsets"};
	char	   *name = get_rel_name(relid);

	for (int i = 0; name != NULL && i < lengthof(tables); i++)
		if (strcmp(name, tables[i]) == 0)
		{
			Oid			schema = get_rel_namespace(relid);

			return schema == get_namespace_oid(ps_schema_of(false, name), true) || schema == get_namespace_oid(PS_REBUILD_SCHEMA, true);
		}
	return false;
}

/* Refuses to write tables on which the process works, even with the rights of a superuser. */
static bool
check_permissions(PS_CHECK_PERMS_ARGS)
{
	ListCell   *cell;

	foreach(cell, is_on ? ps_checked_relations : NIL)
	{
		PsCheckedRelation *relation = lfirst(cell);

		if ((relation->requiredPerms & (ACL_INSERT | ACL_UPDATE | ACL_DELETE)) == 0 || !is_worked_on(relation->relid))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table %s.%s cannot be written or locked by code that profile_stream calls",
						get_namespace_name(get_rel_namespace(relation->relid)), get_rel_name(relation->relid)),
				 errhint("Return the changed profile instead.")));
	}
	return next_perms_hook ? next_perms_hook(PS_CHECK_PERMS_PASS) : true;
}

void
ps_user_code_init(void)
{
	next_access_hook = object_access_hook;
	object_access_hook = check_access;
	next_perms_hook = ExecutorCheckPerms_hook;
	ExecutorCheckPerms_hook = check_permissions;
}

bool
ps_user_code_others_check(void)
{
	return ExecutorCheckPerms_hook != check_permissions || next_perms_hook != NULL;
}

/* Runs in a signal handler when the timer fires. */
static void
user_code_tick(void)
{
	if (!is_on)
		return;
	InterruptPending = true;
	if (ending != TOOK_TOO_LONG)
	{
		ending = TOOK_TOO_LONG;
		QueryCancelPending = true;
		return;
	}
	ending = GAVE_UP;
	ProcDiePending = true;
}

bool
ps_user_code_signalled_itself(void)
{
	if (!is_on)
		return false;
	ending = SIGNALLED_ITSELF;
	InterruptPending = true;
	QueryCancelPending = true;
	return true;
}

bool
ps_user_code_is_on(void)
{
	return is_on;
}

bool
ps_user_code_gave_up(void)
{
	return is_on && ending == GAVE_UP;
}

void
ps_user_code_begin(int timeout_ms, const char *setting)
{
	limit = setting;
	ending = NOT_ENDED;
	is_on = true;
	timer_is_set = timeout_ms > 0;
	if (!timer_is_set)
		return;
	if (timer == MAX_TIMEOUTS)
		timer = RegisterTimeout(USER_TIMEOUT, user_code_tick);
	/* cheap: while the alarm of an earlier call is due, no system call is made */
	enable_timeout_every(timer, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms), timeout_ms);
}

const char *
ps_user_code_end(void)
{
	static char took[128];		/* outlives the subtransaction that the call ends with */

	if (timer_is_set)
		disable_timeout(timer, false);
	timer_is_set = false;
	is_on = false;
	if (ending == NOT_ENDED)
		return NULL;
	QueryCancelPending = false;
	snprintf(took, sizeof(took), "took longer than %s", limit);
	return ending == SIGNALLED_ITSELF ? "cancelled or terminated its own process" : took;
}

/* As REFRESH MATERIALIZED VIEW does: the code's SETs end with it, and it cannot change the role. */
PsRole
ps_role_become(Oid role)
{
	PsRole		back;

	GetUserIdAndSecContext(&back.user, &back.context);
	back.nest_level = NewGUCNestLevel();
	SetUserIdAndSecContext(role, back.context | SECURITY_RESTRICTED_OPERATION);
	return back;
}

void
ps_role_return(PsRole role)
{
	AtEOXact_GUC(false, role.nest_level);
	SetUserIdAndSecContext(role.user, role.context);
}

void
ps_role_fix_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"}, {"timezone", "UTC"}, {"datestyle", "ISO, YMD"}, {"intervalstyle", "postgres"}, {"lc_numeric", "C"},
		{"extra_float_digits", "1"}, {"bytea_output", "hex"}, {"standard_conforming_strings", "on"}, {"transform_null_equals", "off"}, {"array_nulls", "on"}
	};

	for (int i = 0; i < lengthof(settings); i++)
		if (strcmp(GetConfigOption(settings[i][0], false, false), settings[i][1]) != 0)
			ps_guc_set_nested(settings[i][0], settings[i][1]);
}
