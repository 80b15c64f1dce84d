/*
 * track_history.c
 *	  track_history() and untrack_history().
 *
 *	  Both wait for whoever applies events, and those wait for them: so each change of a
 *	  profile is either in the history or before the moment from which the history counts.
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/caller.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "settings.h"
#include "store/extension.h"
#include "store/history_catalog.h"
#include "store/history_partitions.h"
#include "store/history_store.h"
#include "store/lock_wait.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define MAX_RETENTION_DAYS 3653

static void
begin_call(const char *function)
{
	PreventCommandIfReadOnly(function);
	/* an older snapshot would not see the profiles, or the history, that others have committed */
	ps_check_read_committed(function);
	SPI_connect();
	ps_history_lock();
}

/* The names of an array. */
static char **
get_names(ArrayType *array, int *n)
{
	Datum	   *values;
	bool	   *nulls;
	char	  **names;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, n);
	names = palloc(Max(*n, 1) * sizeof(char *));
	for (int i = 0; i < *n; i++)
	{
		names[i] = nulls[i] ? "" : TextDatumGetCString(values[i]);
		ps_check_argument(names[i][0] != '\0' && strlen(names[i]) < NAMEDATALEN, "a column must have 1 to 63 bytes");
	}
	return names;
}

static Interval *
get_retention(FunctionCallInfo fcinfo)
{
	Interval   *retention = PG_GETARG_INTERVAL_P(1);
	int64		us = ps_interval_us(retention);

	if (retention->month != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("retention must not have months or years"),
				 errhint("They have no fixed length: write 365 days.")));
	ps_check_argument(us >= USECS_PER_MINUTE && us <= MAX_RETENTION_DAYS * USECS_PER_DAY,
					  "retention must be between 1 minute and " CppAsString2(MAX_RETENTION_DAYS) " days");
	return retention;
}

/*
 * The moment from which the history is whole. Events that were applied before may be
 * later than now by max_clock_skew. Without profiles nothing was before.
 */
static TimestampTz
find_since(PsTrackedKind kind)
{
	if (!ps_history_any_profile())
		return DT_NOBEGIN;
	if (kind == PS_TRACKED_SCORE)
		return GetCurrentTimestamp();
	return GetCurrentTimestamp() + ps_max_clock_skew_ms * INT64CONST(1000);
}

static Datum
track_history(PG_FUNCTION_ARGS)
{
	int			n;
	char	  **names = get_names(PG_GETARG_ARRAYTYPE_P(0), &n);
	PsTrackedName *tracked = palloc(Max(n, 1) * sizeof(PsTrackedName));
	Interval   *retention = get_retention(fcinfo);

	for (int i = 0; i < n; i++)
	{
		const char *wrong = ps_tracked_resolve(names[i], &tracked[i]);

		if (wrong != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("column \"%s\" cannot be tracked: %s", names[i], wrong),
					 errhint("Track columns that maps may change, scores, attributes by their names, or all attributes as \"" PS_ALL_ATTRIBUTES "\".")));
	}
	begin_call("track_history()");
	for (int i = 0; i < n; i++)
		tracked[i].since = find_since(tracked[i].kind);
	ps_history_track(tracked, n, retention);
	SPI_finish();
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_track_history);
static Datum
ps_track_history_checked(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, track_history, "track_history()", PS_SESSION_WAIT_MS);
}

/* Removes the values of what is not tracked any more. */
static void
remove_history(void)
{
	const PsTracked *tracked = ps_history_tracked();
	Datum	   *keys = palloc(Max(tracked->nnames, 1) * sizeof(Datum));

	for (int i = 0; i < tracked->nnames; i++)
		keys[i] = CStringGetTextDatum(psprintf("%s%s", tracked->names[i].kind == PS_TRACKED_ATTRIBUTE ? PS_ATTRIBUTE_KEY : "",
											   tracked->names[i].name));
	if (tracked->nnames == 0)
		(void) ps_history_drop(DT_NOEND, true);
	ps_history_keep_only(PointerGetDatum(construct_array(keys, tracked->nnames, TEXTOID, -1, false, TYPALIGN_INT)),
						 ps_tracked_find(tracked, PS_ALL_ATTRIBUTES) != NULL);
}

static Datum
untrack_history(PG_FUNCTION_ARGS)
{
	char	  **names = NULL;
	int			n = 0;

	if (!PG_ARGISNULL(0))
		names = get_names(PG_GETARG_ARRAYTYPE_P(0), &n);
	begin_call("untrack_history()");
	if (names == NULL)
	{
		const PsTracked *tracked = ps_history_tracked();

		n = tracked->nnames;
		names = palloc(Max(n, 1) * sizeof(char *));
		for (int i = 0; i < n; i++)
			names[i] = pstrdup(tracked->names[i].name);
	}
	for (int i = 0; i < n; i++)
		if (!ps_history_untrack(names[i]))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("column \"%s\" is not tracked", names[i]),
					 errhint("The view definitions lists what is.")));
	CommandCounterIncrement();
	remove_history();
	SPI_finish();
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_untrack_history);
static Datum
ps_untrack_history_checked(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, untrack_history, "untrack_history()", PS_SESSION_WAIT_MS);
}
