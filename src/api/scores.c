/*
 * scores.c
 *	  The functions of scores and of segments by rule.
 *
 *	  The tables score_function and segments tell with whose rights code runs. So only
 *	  these functions write them, and they note the caller as the owner.
 */
#include "postgres.h"

#include "api/caller.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "scores/refresh.h"
#include "store/distributed.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/regproc.h"
#include "utils/timestamp.h"

#define MAX_BATCH 100000
#define MAX_PREDICATE_BYTES 10000

/* Begins a procedure that commits its batches. */
static void
begin_procedure(FunctionCallInfo fcinfo, const char *what)
{
	ps_check_not_atomic(fcinfo, what, "Call it outside of a transaction block.");
	PreventCommandIfReadOnly(what);
	PreventCommandDuringRecovery(what);
	ps_distributed_check();
	SPI_connect_ext(SPI_OPT_NONATOMIC);
}

static void
scores_start(PsRefresh *refresh)
{
	if (!ps_refresh_start(refresh))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("a refresh of scores or segments already runs in this database"),
				 errhint("See profile_stream.stat_score_refresh. pg_cancel_backend() ends it, and the next refresh goes on.")));
}

static int
get_batch(FunctionCallInfo fcinfo, int n)
{
	int			batch = PG_ARGISNULL(n) ? 0 : PG_GETARG_INT32(n);

	ps_check_argument(batch >= 1 && batch <= MAX_BATCH, "batch must be between 1 and " CppAsString2(MAX_BATCH));
	return batch;
}

PG_FUNCTION_INFO_V1(ps_refresh_scores);
Datum
ps_refresh_scores(PG_FUNCTION_ARGS)
{
	PsRefresh	refresh = {.batch = get_batch(fcinfo, 1)};
	int64		stale_us = PG_ARGISNULL(0) ? -1 : ps_interval_us(PG_GETARG_INTERVAL_P(0));

	ps_check_argument(stale_us >= 0, "stale_after must not be negative");
	refresh.as_of = PG_ARGISNULL(2) ? GetCurrentTimestamp() : PG_GETARG_TIMESTAMPTZ(2);
	ps_check_argument(!TIMESTAMP_NOT_FINITE(refresh.as_of), "as_of must be finite");
	refresh.before = GetCurrentTimestamp() - Min(stale_us, GetCurrentTimestamp() - MIN_TIMESTAMP);
	begin_procedure(fcinfo, "refresh_scores()");
	scores_start(&refresh);
	ps_scores_refresh(&refresh);
	ps_refresh_finish();
	if (refresh.counts.failed > 0)
		ereport(WARNING,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("%lld profiles keep their scores, because computing them failed", (long long) refresh.counts.failed),
				 errhint("See the error in profile_stream.stat_score_refresh.")));
	SPI_finish();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_refresh_segments);
Datum
ps_refresh_segments(PG_FUNCTION_ARGS)
{
	char	   *name = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	PsRefresh	refresh = {.batch = get_batch(fcinfo, 1)};

	begin_procedure(fcinfo, "refresh_segments()");
	if (name != NULL)
		name = pstrdup(name);	/* into the memory of SPI, which lives longer than the transactions of the procedure */
	scores_start(&refresh);
	ps_segments_refresh(&refresh, name);
	ps_refresh_finish();
	SPI_finish();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_set_score_function);
Datum
ps_set_score_function(PG_FUNCTION_ARGS)
{
	const char *function = NULL;
	PsScoreFunction present;

	if (!PG_ARGISNULL(0))
	{
		ps_score_function_check(PG_GETARG_OID(0), GetUserId());
		function = format_procedure_qualified(PG_GETARG_OID(0));
	}
	SPI_connect();
	if (ps_score_function_find(&present) && !superuser_arg(GetUserId()) && !has_privs_of_role(GetUserId(), present.owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of the score function that is set"),
				 errhint("profile_stream.stat_code shows who set it; that role or a superuser replaces it.")));
	ps_score_function_set(function, GetUserId());
	SPI_finish();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_create_segment);
Datum
ps_create_segment(PG_FUNCTION_ARGS)
{
	PsSegment	segment = {text_to_cstring(PG_GETARG_TEXT_PP(0)), text_to_cstring(PG_GETARG_TEXT_PP(1)), GetUserId()};
	const char *wrong;
	bool		created;

	ps_check_argument(segment.name[0] != '\0' && strlen(segment.name) <= PS_MAX_SEGMENT_BYTES,
					  "name must have 1 to " CppAsString2(PS_MAX_SEGMENT_BYTES) " bytes");
	ps_check_argument(strlen(segment.predicate) <= MAX_PREDICATE_BYTES, "predicate must have at most " CppAsString2(MAX_PREDICATE_BYTES) " bytes");
	(void) set_config_option("standard_conforming_strings", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	wrong = ps_segment_check(segment.predicate);
	if (wrong != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("%s", wrong),
				 errhint("A predicate is a condition as in a WHERE clause on profile_stream.profiles: total_balance > 1000 AND segment = 'loyal'.")));
	SPI_connect();
	/* of nobody: whether it can be evaluated, with the caller's rights */
	(void) ps_segment_matches(segment.predicate, "", "");
	created = ps_segment_create(&segment);
	if (!created)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("segment \"%s\" exists already", segment.name),
				 errhint("drop_segment() removes it.")));
	SPI_finish();
	PG_RETURN_VOID();
}

/* Raises unless there is a segment of that name that the caller owns. */
static void
check_segment(const char *name)
{
	List	   *found = ps_segments_find(name);

	if (found == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("segment \"%s\" does not exist", name),
				 errhint("The view stat_code lists them.")));
	if (!superuser() && !has_privs_of_role(GetUserId(), ((PsSegment *) linitial(found))->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of segment \"%s\"", name)));
}

PG_FUNCTION_INFO_V1(ps_drop_segment);
Datum
ps_drop_segment(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	SPI_connect();
	check_segment(name);
	ps_segment_drop(name);
	SPI_finish();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_alter_segment);
Datum
ps_alter_segment(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Oid			owner = get_role_oid(NameStr(*PG_GETARG_NAME(1)), false);

	SPI_connect();
	check_segment(name);
	ps_check_set_role(owner);
	ps_segment_give(name, owner);
	SPI_finish();
	PG_RETURN_VOID();
}
