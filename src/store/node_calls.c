/*
 * node_calls.c
 *	  Runs the function that a question to all nodes names, with the rights of the caller.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "store/node_calls.h"
#include "store/plan.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

static bool running = false;

bool
ps_node_call_is_running(void)
{
	return running;
}

/* The caller's text may have more than one statement: the value is read only if it is what the first one would return. */
static void
check_result(const char *call, int result)
{
	if (result != SPI_OK_SELECT || SPI_processed != 1 || SPI_gettypeid(SPI_tuptable->tupdesc, 1) != JSONBOID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a call on a node must be one function that returns one row"),
				 errdetail("The call is: %s", call)));
}

Datum
ps_node_call_run(const char *call, bool *isnull)
{
	running = true;
	PG_TRY();
	{
		check_result(call, SPI_execute(psprintf("SELECT pg_catalog.to_jsonb(f) FROM %s AS f", call), false, 0));
	}
	PG_FINALLY();
	{
		running = false;
	}
	PG_END_TRY();
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, isnull);
}

int64
ps_node_procedure_run(const char *call)
{
	static const char sql[] =
	"SELECT pg_catalog.string_agg(pg_catalog.format('%s:%s: %s', n.nodename, n.nodeport, r.result), E'\n') FILTER (WHERE NOT r.success),"
	" COALESCE(pg_catalog.sum(CASE WHEN r.success THEN r.result::pg_catalog.int8 END), 0)::pg_catalog.int8"
	" FROM pg_catalog.run_command_on_all_nodes($1) r LEFT JOIN pg_catalog.pg_dist_node n ON n.nodeid = r.nodeid";
	static const Oid types[1] = {TEXTOID};
	Datum		args[1] = {CStringGetTextDatum(psprintf("CALL %s", call))};
	char	   *failed;
	bool		isnull;

	PushActiveSnapshot(GetTransactionSnapshot());
	(void) ps_plan_run_once(sql, lengthof(types), types, args, true);
	PopActiveSnapshot();
	failed = ps_plan_text(0, 1);
	if (failed != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the call did not run on all nodes"),
				 errdetail("%s", failed),
				 errhint("Call it again when all nodes run. What others have done is done.")));
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
}

int64
ps_nodes_refresh_segments(const char *name, int batch, char **unreached, char **failed)
{
	static const char sql[] =
	"WITH r AS (SELECT n.nodename, n.nodeport, r.success, r.result, CASE WHEN r.success THEN r.result::pg_catalog.jsonb END AS answer"
	" FROM pg_catalog.run_command_on_all_nodes($1) r LEFT JOIN pg_catalog.pg_dist_node n ON n.nodeid = r.nodeid)"
	" SELECT (SELECT pg_catalog.count(DISTINCT s.shard) FROM r CROSS JOIN LATERAL pg_catalog.jsonb_array_elements_text(r.answer -> 'shards') s(shard)),"
	" (SELECT pg_catalog.string_agg(pg_catalog.format('%s:%s: %s', r.nodename, r.nodeport, r.result), E'\n') FROM r WHERE NOT r.success),"
	" (SELECT pg_catalog.string_agg(pg_catalog.format('segment \"%s\" on %s:%s: %s', e.key, r.nodename, r.nodeport, e.value), E'\n')"
	" FROM r CROSS JOIN LATERAL pg_catalog.jsonb_each_text(r.answer -> 'failed') e)";
	static const Oid types[1] = {TEXTOID};
	Datum		args[1];
	bool		isnull;

	args[0] = CStringGetTextDatum(psprintf("CALL profile_stream_internal.refresh_segments(%s, %d, NULL)", name == NULL ? "NULL" : quote_literal_cstr(name), batch));
	(void) ps_plan_run_once(sql, lengthof(types), types, args, true);
	*unreached = ps_plan_text(0, 2);
	*failed = ps_plan_text(0, 3);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}
