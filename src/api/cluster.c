/*
 * cluster.c
 *	  Functions of distribute() and undistribute() that SQL cannot have.
 */
#include "postgres.h"

#include "commands/event_trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "settings.h"
#include "store/cluster_calls.h"
#include "store/distributed.h"
#include "store/extension.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(ps_is_distributed);
Datum
ps_is_distributed(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(ps_distributed());
}

PS_FUNCTION(ps_run_call);
static Datum
ps_run_call_checked(PG_FUNCTION_ARGS)
{
	SPI_connect();
	ps_cluster_calls_run(PG_GETARG_INT64(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_GETARG_DATUM(2));
	SPI_finish();
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_send_calls);
static Datum
ps_send_calls_checked(PG_FUNCTION_ARGS)
{
	SPI_connect();
	ps_cluster_calls_send_all();
	SPI_finish();
	PG_RETURN_VOID();
}

/* Whether a DROP names the extension or its schema. */
static bool
drops_extension(const DropStmt * drop)
{
	ListCell   *cell;

	if (drop->removeType != OBJECT_EXTENSION && drop->removeType != OBJECT_SCHEMA)
		return false;
	foreach(cell, drop->objects)
		if (strncmp(strVal(lfirst(cell)), PS_SCHEMA, strlen(PS_SCHEMA)) == 0)
		return true;
	return false;
}

PG_FUNCTION_INFO_V1(ps_refuse_drop);
Datum
ps_refuse_drop(PG_FUNCTION_ARGS)
{
	EventTriggerData *trigger = CALLED_AS_EVENT_TRIGGER(fcinfo) ? (EventTriggerData *) fcinfo->context : NULL;

	if (trigger != NULL && IsA(trigger->parsetree, DropStmt) && drops_extension((DropStmt *) trigger->parsetree) && ps_distributed())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension profile_stream cannot be dropped while its profiles are distributed"),
				 errhint("Call profile_stream.undistribute() first.")));
	PG_RETURN_VOID();
}
