/*
 * scores.c
 *	  The functions of scores, and refresh_segments(). Where profiles are distributed all
 *	  nodes refresh those of their shards, at the same time. A shard that moves meanwhile may be
 *	  seen by none of them: so each node says which shards of segments it has seen whole.
 *
 *	  The table score_function tells with whose rights code runs. So only these functions
 *	  write it, and they note the caller as the owner.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "api/caller.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "scores/refresh.h"
#include "store/distributed.h"
#include "store/extension.h"
#include "store/node_calls.h"
#include "store/shards.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define MAX_BATCH 100000
#define ROUNDS 5				/* so often all nodes refresh the segments, when shards move meanwhile */

/* Begins a procedure that commits its batches. */
static void
begin_procedure(FunctionCallInfo fcinfo, const char *what)
{
	ps_check_not_atomic(fcinfo, what, "Call it outside of a transaction block.");
	PreventCommandIfReadOnly(what);
	PreventCommandDuringRecovery(what);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
}

static void
scores_start(PsRefresh *refresh)
{
	if (!ps_refresh_start(refresh))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("a refresh of scores or segments is already running in this database"),
				 errhint("See profile_stream.stat_score_refresh. pg_cancel_backend() ends it, and the next refresh goes on.")));
}

static int
get_batch(FunctionCallInfo fcinfo, int n)
{
	int			batch = PG_ARGISNULL(n) ? 0 : PG_GETARG_INT32(n);

	ps_check_argument(batch >= 1 && batch <= MAX_BATCH, "batch must be between 1 and " CppAsString2(MAX_BATCH));
	return batch;
}

/* Refreshes the scores of the profiles that are here; returns how many keep theirs because of an error. */
static int64
refresh_here(int64 stale_us, int batch, TimestampTz as_of)
{
	TimestampTz now = GetCurrentTimestamp();
	PsRefresh	refresh = {.batch = batch,.before = now - Min(stale_us, now - MIN_TIMESTAMP),.as_of = as_of};

	scores_start(&refresh);
	ps_scores_refresh(&refresh);
	ps_refresh_finish();
	return refresh.counts.failed;
}

/*
 * Has all nodes do that at the same time, with the rights of the caller. What is too old
 * is up to the clock of each, by which its passes began.
 */
static int64
refresh_on_nodes(int64 stale_us, int batch, TimestampTz as_of)
{
	return ps_node_procedure_run(psprintf("profile_stream_internal.refresh_scores(" INT64_FORMAT ", %d, %s, NULL)", stale_us, batch,
										  quote_literal_cstr(timestamptz_to_str(as_of))));
}

PS_FUNCTION(ps_refresh_scores);
static Datum
ps_refresh_scores_checked(PG_FUNCTION_ARGS)
{
	int			batch = get_batch(fcinfo, 1);
	int64		stale_us = PG_ARGISNULL(0) ? -1 : ps_interval_us(PG_GETARG_INTERVAL_P(0));
	TimestampTz as_of = PG_ARGISNULL(2) ? GetCurrentTimestamp() : PG_GETARG_TIMESTAMPTZ(2);
	int64		failed;

	ps_check_argument(stale_us >= 0, "stale_after must not be negative");
	ps_check_argument(!TIMESTAMP_NOT_FINITE(as_of), "as_of must be finite");
	begin_procedure(fcinfo, "refresh_scores()");
	failed = ps_distributed() ? refresh_on_nodes(stale_us, batch, as_of) : refresh_here(stale_us, batch, as_of);
	if (failed > 0)
		ereport(WARNING,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("%lld profiles keep their scores, because computing them failed", (long long) failed),
				 errhint("See the error in profile_stream.%s.", ps_distributed() ? "node_score_refresh" : "stat_score_refresh")));
	SPI_finish();
	PG_RETURN_VOID();
}

/* What refresh_scores() has each node do where profiles are distributed. */
PS_FUNCTION(ps_refresh_scores_here);
static Datum
ps_refresh_scores_here_checked(PG_FUNCTION_ARGS)
{
	int			batch = get_batch(fcinfo, 1);
	TupleDesc	desc;
	Datum		failed;
	bool		isnull = false;

	ps_check_argument(!PG_ARGISNULL(0) && PG_GETARG_INT64(0) >= 0, "stale_us must not be negative");
	ps_check_argument(!PG_ARGISNULL(2) && !TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(2)), "as_of must be finite");
	begin_procedure(fcinfo, "refresh_scores()");
	failed = Int64GetDatum(refresh_here(PG_GETARG_INT64(0), batch, PG_GETARG_TIMESTAMPTZ(2)));
	SPI_finish();
	(void) get_call_result_type(fcinfo, NULL, &desc);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), &failed, &isnull)));
}

static void
refresh_segments_here(const char *name, int batch, PsSegmentsRefresh *all)
{
	PsRefresh	refresh = {.batch = batch};

	scores_start(&refresh);
	ps_segments_refresh(&refresh, name, all);
	ps_refresh_finish();
}

/* Has all nodes refresh segments, with the rights of the caller. Returns how many shards were seen whole, and to *failed errors of predicates. */
static int64
refresh_segments_on_nodes(const char *name, int batch, char **failed)
{
	char	   *unreached;
	int64		shards;

	PushActiveSnapshot(GetTransactionSnapshot());
	shards = ps_nodes_refresh_segments(name, batch, &unreached, failed);
	PopActiveSnapshot();
	if (unreached != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("refresh_segments() did not run on all nodes"),
				 errdetail("%s", unreached),
				 errhint("Call it again. Members of the other nodes are up to date.")));
	return shards;
}

static void
refresh_all_shards(const char *name, int batch)
{
	char	   *failed = NULL;
	int			round = 0;

	while (refresh_segments_on_nodes(name, batch, &failed) < ps_shards_count())
		if (++round == ROUNDS)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("segments were not refreshed in all shards, because these move between nodes"),
					 errhint("Call refresh_segments() again when the moves are done.")));
	if (failed != NULL)
		ereport(WARNING,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("segments could not be refreshed on all nodes"),
				 errdetail("%s", failed),
				 errhint("profile_stream.stat_code of the node shows whose rights the predicate runs with.")));
}

/* The name of the segment, in memory that lives longer than the transactions of the procedure; NULL: all. */
static char *
segment_of_call(FunctionCallInfo fcinfo)
{
	return PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
}

PS_FUNCTION(ps_refresh_segments);
static Datum
ps_refresh_segments_checked(PG_FUNCTION_ARGS)
{
	int			batch = get_batch(fcinfo, 1);
	PsSegmentsRefresh all = {0};
	char	   *name;

	begin_procedure(fcinfo, "refresh_segments()");
	name = segment_of_call(fcinfo);
	if (ps_distributed())
		refresh_all_shards(name, batch);
	else
		refresh_segments_here(name, batch, &all);
	SPI_finish();
	PG_RETURN_VOID();
}

/* What a node answers. */
static char *
answer_of_node(const PsSegmentsRefresh *all)
{
	StringInfoData answer;
	ListCell   *cell;
	bool		is_first = true;

	initStringInfo(&answer);
	appendStringInfoString(&answer, "{\"shards\":[");
	foreach(cell, all->shards)
	{
		appendStringInfo(&answer, "%s\"%s\"", is_first ? "" : ",", (char *) lfirst(cell));
		is_first = false;
	}
	appendStringInfoString(&answer, "],\"failed\":{");
	is_first = true;
	foreach(cell, all->walks)
	{
		const PsSegmentRefresh *walk = lfirst(cell);

		if (walk->error == NULL)
			continue;
		appendStringInfoString(&answer, is_first ? "" : ",");
		is_first = false;
		escape_json(&answer, walk->segment->name);
		appendStringInfoChar(&answer, ':');
		escape_json(&answer, walk->error);
	}
	appendStringInfoString(&answer, "}}");
	return answer.data;
}

/* What refresh_segments() has each node do where profiles are distributed. */
PS_FUNCTION(ps_refresh_segments_here);
static Datum
ps_refresh_segments_here_checked(PG_FUNCTION_ARGS)
{
	int			batch = get_batch(fcinfo, 1);
	MemoryContext caller = CurrentMemoryContext;
	PsSegmentsRefresh all = {0};
	TupleDesc	desc;
	Datum		answer;
	bool		isnull = false;
	char	   *text;

	begin_procedure(fcinfo, "refresh_segments()");
	refresh_segments_here(segment_of_call(fcinfo), batch, &all);
	text = MemoryContextStrdup(caller, answer_of_node(&all));

	SPI_finish();
	answer = DirectFunctionCall1(jsonb_in, CStringGetDatum(text));
	(void) get_call_result_type(fcinfo, NULL, &desc);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), &answer, &isnull)));
}

PS_FUNCTION(ps_set_score_function);
static Datum
ps_set_score_function_checked(PG_FUNCTION_ARGS)
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
