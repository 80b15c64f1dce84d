/*
 * repair.c
 *	  The parts of retry_dead_letters(), which lock_dead_letters() and
 *	  settle_dead_letters() begin and end; and discard_dead_letters().
 */
#include "postgres.h"

#include "api/caller.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "message.h"
#include "miscadmin.h"
#include "store/dead_letter_repair.h"
#include "store/extension.h"
#include "utils/datum.h"

#define KIND_NAME(kind) #kind,

static const char *const kinds[] = {PS_LETTER_KINDS(KIND_NAME,)};

/* Raises unless a stream or a topic of that name is known here. Needs SPI. */
static void
check_source(FunctionCallInfo fcinfo, int n, const char *what)
{
	if (!PG_ARGISNULL(n) && !ps_dead_letters_know(strcmp(what, "topic") == 0, PG_GETARG_DATUM(n)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is neither a %s \"%s\" nor a dead letter of it", what, ps_get_string(fcinfo, n)),
				 errhint("SELECT DISTINCT %s FROM profile_stream.dead_letters shows of which there are some.", what)));
}

/*
 * The first arguments choose the letters. A filter that is null chooses all. One that
 * can choose none, now or later, is a mistake: 0 letters would not tell. Needs SPI.
 */
static void
get_filters(FunctionCallInfo fcinfo, Datum *filters, bool *nulls)
{
	const char *sqlstate = ps_get_string(fcinfo, 3);

	for (int i = 0; i < PS_LETTER_FILTERS; i++)
	{
		filters[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i);
	}
	check_source(fcinfo, 0, "stream");
	check_source(fcinfo, 7, "topic");
	if (!PG_ARGISNULL(1))
		ps_check_word("kind", ps_get_string(fcinfo, 1), kinds, lengthof(kinds));
	ps_check_argument(sqlstate == NULL || (strlen(sqlstate) == 5 && strspn(sqlstate, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5),
					  "sqlstate must be five digits and capital letters, as 23514");
	ps_check_argument(PG_ARGISNULL(4) || PG_ARGISNULL(5) || PG_GETARG_TIMESTAMPTZ(4) < PG_GETARG_TIMESTAMPTZ(5), "since must be before until");
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
	SPI_connect();
	get_filters(fcinfo, filters, nulls);
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
	SPI_connect();
	get_filters(fcinfo, filters, nulls);
	discarded = ps_dead_letters_discard(filters, nulls);
	SPI_finish();
	PG_RETURN_INT64(discarded);
}
