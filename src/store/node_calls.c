/*
 * node_calls.c
 *	  Runs the function that a question to all nodes names, with the rights of the caller.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "store/node_calls.h"

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
