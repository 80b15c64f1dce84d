/*
 * cluster_calls.c
 *	  A node runs a call in a transaction of its own, before the coordinator commits. If the
 *	  coordinator then fails, the same call has to be made again: the nodes that have it
 *	  already pass over it, and refuse another one of its number.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "store/cluster_calls.h"
#include "store/plan.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

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
	"LOCK TABLE ONLY profile_stream_internal.cluster_calls IN SHARE ROW EXCLUSIVE MODE"
};

static PsPlan next_plan = {
	"SELECT COALESCE(pg_catalog.max(c.call_no), 0) + 1 FROM profile_stream_internal.cluster_calls c"
};

static PsPlan find_plan = {
	"SELECT c.call FROM profile_stream_internal.cluster_calls c WHERE c.call_no = $1", 1, {INT8OID}
};

static PsPlan add_plan = {
	"INSERT INTO profile_stream_internal.cluster_calls (call_no, call, ids, called_at) VALUES ($1, $2, $3, pg_catalog.clock_timestamp())",
	3, {INT8OID, TEXTOID, INT8ARRAYOID}
};

static PsPlan all_plan = {
	"SELECT c.call_no, c.call, c.ids FROM profile_stream_internal.cluster_calls c ORDER BY c.call_no"
};

static bool running = false;

bool
ps_cluster_calls_running(void)
{
	return running;
}

Datum
ps_cluster_calls_ids(void)
{
	bool		isnull;
	Datum		ids;

	(void) ps_plan_run(&ids_plan, NULL, NULL, SPI_OK_SELECT);
	ids = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return PointerGetDatum(DatumGetArrayTypePCopy(ids));
}

/* Adds a call. The table is locked, so that no other one gets its number. */
static void
calls_add(int64 call_no, const char *call, Datum ids)
{
	Datum		args[3] = {Int64GetDatum(call_no), CStringGetTextDatum(call), ids};

	ps_plan_write(&add_plan, args, NULL, SPI_OK_INSERT, 1, "cluster_calls");
}

int64
ps_cluster_calls_add(const char *call, Datum ids)
{
	int64		call_no;

	(void) ps_plan_run(&lock_plan, NULL, NULL, SPI_OK_UTILITY);
	call_no = ps_plan_number(&next_plan, NULL);
	calls_add(call_no, call, ids);
	return call_no;
}

/* The statement that runs a call on a node. */
static char *
command_text(int64 call_no, const char *call, Datum ids)
{
	Oid			output;
	bool		is_varlena;

	getTypeOutputInfo(INT8ARRAYOID, &output, &is_varlena);
	return psprintf("SELECT profile_stream_internal.run_call(" INT64_FORMAT ", %s, %s)", call_no, quote_literal_cstr(call),
					quote_literal_cstr(OidOutputFunctionCall(output, ids)));
}

void
ps_cluster_calls_send(int64 call_no, const char *call, Datum ids)
{
	/* with the rights of the caller, who so becomes the owner of a stream on each node */
	static const char sql[] = "SELECT pg_catalog.format('%s:%s: %s', nodename, nodeport, result), success FROM pg_catalog.run_command_on_workers($1)";
	Oid			types[1] = {TEXTOID};
	Datum		args[1] = {CStringGetTextDatum(command_text(call_no, call, ids))};
	StringInfoData failed;

	initStringInfo(&failed);
	if (SPI_execute_with_args(sql, 1, types, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run a call on the nodes");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		if (!DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull)))
			appendStringInfo(&failed, "%s%s", failed.len > 0 ? "\n" : "", ps_plan_text(i, 1));
	}
	if (failed.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("call " INT64_FORMAT " did not run on all nodes", call_no),
				 errdetail("%s", failed.data),
				 errhint("Make the same call again when all nodes run; a node that has run it passes over it.")));
}

void
ps_cluster_calls_send_all(void)
{
	uint64		n;
	SPITupleTable *calls;

	(void) ps_plan_run(&lock_plan, NULL, NULL, SPI_OK_UTILITY);
	n = ps_plan_run(&all_plan, NULL, NULL, SPI_OK_SELECT);
	calls = SPI_tuptable;
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		int64		call_no = DatumGetInt64(SPI_getbinval(calls->vals[i], calls->tupdesc, 1, &isnull));
		char	   *call = SPI_getvalue(calls->vals[i], calls->tupdesc, 2);

		ps_cluster_calls_send(call_no, call, SPI_getbinval(calls->vals[i], calls->tupdesc, 3, &isnull));
	}
}

/* Whether this node has run a call; raises when it has run another one of that number. */
static bool
calls_has(int64 call_no, const char *call)
{
	Datum		args[1] = {Int64GetDatum(call_no)};
	char	   *known;

	if (ps_plan_run(&find_plan, args, NULL, SPI_OK_SELECT) == 0)
		return false;
	known = ps_plan_text(0, 1);
	if (strcmp(known, call) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("call " INT64_FORMAT " was another one on this node", call_no),
				 errdetail("It was %s, which did not run on all nodes.", known),
				 errhint("Make that call again on the coordinator. Then undo it there if it is not wanted.")));
	return true;
}

/* Runs the text of a call as the user of the session. */
static void
calls_execute(const char *call)
{
	char	   *sql = psprintf("SELECT %s", call);

	running = true;
	PG_TRY();
	{
		if (SPI_execute(sql, false, 0) != SPI_OK_SELECT)
			elog(ERROR, "could not run call %s", call);
	}
	PG_FINALLY();
	{
		running = false;
	}
	PG_END_TRY();
}

void
ps_cluster_calls_run(int64 call_no, const char *call, Datum ids)
{
	int64		next;

	(void) ps_plan_run(&lock_plan, NULL, NULL, SPI_OK_UTILITY);
	if (calls_has(call_no, call))
		return;
	next = ps_plan_number(&next_plan, NULL);
	if (next != call_no)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this node has not run calls " INT64_FORMAT " to " INT64_FORMAT, next, call_no - 1),
				 errhint("Call profile_stream.distribute() on the coordinator: it runs them here.")));
	(void) ps_plan_run(&set_ids_plan, &ids, NULL, SPI_OK_SELECT);
	calls_execute(call);
	calls_add(call_no, call, ids);
}
