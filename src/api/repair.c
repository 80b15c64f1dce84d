/*
 * repair.c
 *	  The parts of retry_dead_letters(), which lock_dead_letters() and
 *	  settle_dead_letters() begin and end; and discard_dead_letters().
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "store/dead_letter_repair.h"
#include "store/extension.h"
#include "utils/datum.h"

/* The first arguments choose the letters. A filter that is null chooses all. */
static void
get_filters(FunctionCallInfo fcinfo, Datum *filters, bool *nulls)
{
	for (int i = 0; i < PS_LETTER_FILTERS; i++)
	{
		filters[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i);
	}
}

/* Locks the letters that are chosen, and returns their ids, so that two calls do not retry the same letter. */
PS_FUNCTION(ps_lock_dead_letters);
static Datum
ps_lock_dead_letters_checked(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum		filters[PS_LETTER_FILTERS];
	bool		nulls[PS_LETTER_FILTERS];
	Datum		ids;

	PreventCommandIfReadOnly("lock_dead_letters()");
	get_filters(fcinfo, filters, nulls);
	SPI_connect();
	ids = ps_dead_letters_lock(filters, nulls, PG_GETARG_DATUM(PS_LETTER_FILTERS), PG_ARGISNULL(PS_LETTER_FILTERS),
							   PG_ARGISNULL(PS_LETTER_FILTERS + 1) ? 0 : PG_GETARG_INT64(PS_LETTER_FILTERS + 1));
	MemoryContextSwitchTo(caller);
	ids = datumCopy(ids, false, -1);
	SPI_finish();
	PG_RETURN_DATUM(ids);
}

/* Removes letters that were applied, and notes the new errors of the others. */
PS_FUNCTION(ps_settle_dead_letters);
static Datum
ps_settle_dead_letters_checked(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("settle_dead_letters()");
	SPI_connect();
	ps_dead_letters_settle(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1));
	SPI_finish();
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_discard_dead_letters);
static Datum
ps_discard_dead_letters_checked(PG_FUNCTION_ARGS)
{
	Datum		filters[PS_LETTER_FILTERS];
	bool		nulls[PS_LETTER_FILTERS];
	int64		discarded;

	PreventCommandIfReadOnly("discard_dead_letters()");
	get_filters(fcinfo, filters, nulls);
	SPI_connect();
	discarded = ps_dead_letters_discard(filters, nulls);
	SPI_finish();
	PG_RETURN_INT64(discarded);
}
