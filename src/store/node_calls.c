/*
 * node_calls.c
 *	  Runs the text of a call with the rights of the user of the session.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "store/node_calls.h"

static bool running = false;

bool
ps_node_call_is_running(void)
{
	return running;
}

Datum
ps_node_call_run(const char *call)
{
	bool		isnull;

	running = true;
	PG_TRY();
	{
		if (SPI_execute(psprintf("SELECT pg_catalog.to_jsonb(f) FROM %s AS f", call), false, 0) != SPI_OK_SELECT || SPI_processed != 1)
			elog(ERROR, "could not run call %s", call);
	}
	PG_FINALLY();
	{
		running = false;
	}
	PG_END_TRY();
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
}
