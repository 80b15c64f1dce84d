/*
 * distribute.c
 *	  Functions of distribute() and undistribute() that SQL cannot have.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "api/caller.h"
#include "catalog/pg_namespace.h"
#include "commands/event_trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "settings.h"
#include "store/coordinator_calls.h"
#include "store/distributed.h"
#include "store/distributed_gate.h"
#include "store/extension.h"
#include "store/rebuild_schema.h"
#include "store/shards.h"
#include "store/stream_catalog.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(ps_is_distributed);
Datum
ps_is_distributed(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(ps_distributed());
}

/* Also where the library and the objects are of different versions: stat_streams says so. */
PG_FUNCTION_INFO_V1(ps_reads_partition);
Datum
ps_reads_partition(PG_FUNCTION_ARGS)
{
	PsStream	stream = {.partitioner = text_to_cstring(PG_GETARG_TEXT_PP(0))};

	PG_RETURN_BOOL((!ps_distributed() || ps_shards_any_here()) && ps_stream_reads(&stream, PG_GETARG_INT32(1)));
}

/* Raises unless an array has one dimension from 1 on, and so many elements; -1: any number. */
static void
check_array(ArrayType *array, int n)
{
	ps_check_argument((ARR_NDIM(array) == 0 && n < 0) || (ARR_NDIM(array) == 1 && ARR_LBOUND(array)[0] == 1 && (n < 0 || (ARR_DIMS(array)[0] == n && !array_contains_nulls(array)))),
					  "arguments and ids must be plain arrays");
}

PS_FUNCTION(ps_run_coordinator_call);
static Datum
ps_run_coordinator_call_checked(PG_FUNCTION_ARGS)
{
	PsCoordinatorCall call = {PG_GETARG_INT64(0), PG_GETARG_DATUM(1), PG_GETARG_DATUM(2), PG_GETARG_DATUM(3), PG_GETARG_DATUM(4)};

	check_array(PG_GETARG_ARRAYTYPE_P(3), -1);
	check_array(PG_GETARG_ARRAYTYPE_P(4), 3);
	SPI_connect();
	ps_distributed_gate_run(&call);
	SPI_finish();
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_send_coordinator_calls);
static Datum
ps_send_coordinator_calls_checked(PG_FUNCTION_ARGS)
{
	SPI_connect();
	ps_coordinator_calls_send_all();
	SPI_finish();
	PG_RETURN_VOID();
}

/* Whether a DROP takes the extension along, or what it needs. */
static bool
drops_extension(const DropStmt * drop)
{
	static const char *const names[] = {PS_SCHEMA, PS_INTERNAL_SCHEMA, PS_REBUILD_SCHEMA, "citus", "plpgsql"};
	ListCell   *cell;

	if (drop->removeType != OBJECT_EXTENSION && drop->removeType != OBJECT_SCHEMA)
		return false;
	foreach(cell, drop->objects)
		for (int i = 0; i < lengthof(names); i++)
		if (strcmp(strVal(lfirst(cell)), names[i]) == 0)
			return true;
	return false;
}

/* The same of what roles own. */
static bool
drops_owner(const DropOwnedStmt * drop)
{
	HeapTuple	schema = SearchSysCache1(NAMESPACENAME, CStringGetDatum(PS_SCHEMA));
	Oid			owner = HeapTupleIsValid(schema) ? ((Form_pg_namespace) GETSTRUCT(schema))->nspowner : InvalidOid;
	ListCell   *cell;

	if (HeapTupleIsValid(schema))
		ReleaseSysCache(schema);
	foreach(cell, drop->roles)
		if (get_rolespec_oid(lfirst_node(RoleSpec, cell), true) == owner)
		return true;
	return false;
}

PG_FUNCTION_INFO_V1(ps_refuse_drop);
Datum
ps_refuse_drop(PG_FUNCTION_ARGS)
{
	EventTriggerData *trigger = CALLED_AS_EVENT_TRIGGER(fcinfo) ? (EventTriggerData *) fcinfo->context : NULL;
	Node	   *drop = trigger == NULL ? NULL : trigger->parsetree;

	if (drop != NULL && ps_distributed() &&
		((IsA(drop, DropStmt) && drops_extension((DropStmt *) drop)) || (IsA(drop, DropOwnedStmt) && drops_owner((DropOwnedStmt *) drop))))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension profile_stream, and what it needs, cannot be dropped while its profiles are distributed"),
				 errhint("Call profile_stream.undistribute() first.")));
	PG_RETURN_VOID();
}
