/*
 * wait_for.c
 *	  wait_for_offset(), wait_for_stream(), the procedures await_offset() and await_stream(),
 *	  and test_connection(). Those of a stream and the last one ask the broker for the end
 *	  offsets.
 *
 *	  A function cannot let go of the snapshot of its caller's statement, so a long wait
 *	  keeps old row versions. The procedures end their transaction before they wait.
 */
#include "postgres.h"

#include <limits.h>

#include "api/caller.h"
#include "clock.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "ingest/probe.h"
#include "ingest/worker.h"
#include "kafka/options.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "process/wait_event.h"
#include "storage/latch.h"
#include "store/distributed.h"
#include "store/extension.h"
#include "store/shards.h"
#include "store/topic_catalog.h"
#include "store/xact.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define MIN_PAUSE_MS 5			/* between two looks at the offsets */
#define MAX_PAUSE_MS 100

/* What is waited for. */
typedef struct Wait
{
	PsStream   *stream;
	const char *goal;			/* for the error */
	PsPartitionEnd *ends;		/* of the partitions that are waited for */
	int			n;
	PsMoment	deadline;
} Wait;

/* Whether each partition has reached its end; raises after the deadline. Needs SPI. */
static bool
has_reached(const Wait *wait)
{
	bool		reached;

	PushActiveSnapshot(GetLatestSnapshot());
	reached = ps_distributed() ? ps_stream_reached_on_nodes(wait->stream->name, wait->ends, wait->n) :
		ps_stream_reached(wait->stream->stream_id, wait->ends, wait->n);
	PopActiveSnapshot();
	if (!reached && ps_clock_now() >= wait->deadline)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("stream \"%s\" did not reach %s in time", wait->stream->name, wait->goal),
				 errdetail("Its state is %s.", ps_stream_describe(wait->stream->name)),
				 errhint("See profile_stream.stat_streams. Pass a longer timeout when the stream only lags.")));
	return reached;
}

/* Pauses between two looks, each time longer. */
static void
pause_between_looks(long *pause)
{
	CHECK_FOR_INTERRUPTS();
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, *pause, ps_wait_event(PS_WAIT_STREAM));
	ResetLatch(MyLatch);
	*pause = Min(MAX_PAUSE_MS, *pause * 2);
}

/* Waits in the caller's transaction, whose snapshot stays. */
static void
wait_for(const Wait *wait)
{
	long		pause = MIN_PAUSE_MS;
	bool		reached = false;

	for (;;)
	{
		SPI_connect();
		reached = has_reached(wait);
		SPI_finish();
		if (reached)
			return;
		pause_between_looks(&pause);
	}
}

/* A procedure cannot have SET search_path, because it ends transactions; each of them has its own. */
static void
fix_search_path(void)
{
	ps_guc_set_local("search_path", "pg_catalog, pg_temp");
}

/* Waits with a transaction for each look; between two there is neither a snapshot nor a lock. Needs a non-atomic SPI connection. */
static void
wait_without_snapshot(const Wait *wait)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "profile_stream wait", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	long		pause = MIN_PAUSE_MS;

	for (;;)
	{
		bool		reached;

		fix_search_path();
		reached = has_reached(wait);
		SPI_commit();
		MemoryContextReset(context);
		if (reached)
			break;
		pause_between_looks(&pause);
	}
	MemoryContextSwitchTo(caller);
}

/* Begins a procedure that waits: ends the transaction of CALL, and its snapshot. */
static void
begin_wait(FunctionCallInfo fcinfo, const char *what, const char *function)
{
	/* a topic, the fifth argument, may be null */
	for (int i = 0; i < Min(PG_NARGS(), 4); i++)
		ps_check_argument(!PG_ARGISNULL(i), "no argument may be null");
	ps_check_not_atomic(fcinfo, what, psprintf("Call it outside of a transaction block, or use %s, which holds a snapshot while it waits.", function));
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();
	fix_search_path();
}

/* The end of one partition behind an offset. The stream is found without SPI's memory, which ends with the connection. */
static Wait
wait_of_offset(FunctionCallInfo fcinfo, PsMoment deadline)
{
	int			partition = PG_GETARG_INT32(1);
	Wait		wait = {.deadline = deadline,.n = 1};
	List	   *topics;

	ps_check_argument(partition >= 0 && partition < PS_PROBE_PARTITIONS, psprintf("partition must be 0 to %d", PS_PROBE_PARTITIONS - 1));
	wait.stream = ps_find_stream(PG_GETARG_TEXT_PP(0), false);
	topics = ps_get_topics(fcinfo, 4, wait.stream);
	ps_check_argument(list_length(topics) == 1, "the stream reads several topics: topic must name the one that is meant");
	wait.ends = palloc(sizeof(PsPartitionEnd));
	wait.ends[0].topic = ((PsTopic *) linitial(topics))->name;
	wait.ends[0].partition = partition;
	wait.ends[0].offset = PG_GETARG_INT64(2) + 1;
	wait.goal = psprintf("offset " INT64_FORMAT " of partition %d", PG_GETARG_INT64(2), partition);
	return wait;
}

/* Asks the broker for the ends of a stream's topics. Topics that do not exist are not waited for. Needs neither SPI nor a snapshot. */
static void
ask_for_ends(Wait *wait, List *topics, List *options)
{
	PsProbeAnswer *answer = ps_probe(options, topics, -1, (int) Min(INT_MAX, ps_clock_left(wait->deadline)));

	ps_check_answer(answer);
	wait->goal = "the end";
	wait->ends = palloc(PS_PROBE_PARTITIONS * sizeof(PsPartitionEnd));
	for (int t = 0; t < answer->ntopics; t++)
		for (int p = 0; p < answer->topics[t].npartitions; p++)
			if (ps_distributed_lately() || ps_stream_reads(wait->stream, p))
				wait->ends[wait->n++] = (PsPartitionEnd)
			{
				answer->topics[t].name, p, ps_probe_partition(answer, &answer->topics[t], p)->high
			};
}

static List *
options_of(const PsStream *stream)
{
	return ps_connection_options(stream->server, stream->bootstrap_servers, stream->options, ps_stream_owner(stream));
}

/* The elements of an array, of which none is null; how many. */
static int
elements_of(ArrayType *array, Datum **elements)
{
	int16		len;
	bool		byval;
	char		align;
	int			n;

	ps_check_argument(!array_contains_nulls(array), "no element may be null");
	get_typlenbyvalalign(ARR_ELEMTYPE(array), &len, &byval, &align);
	deconstruct_array(array, ARR_ELEMTYPE(array), len, byval, align, elements, NULL, &n);
	return n;
}

/* Whether this node has reached the ends of those partitions that it reads. */
PS_FUNCTION(ps_node_reached);
static Datum
ps_node_reached_checked(PG_FUNCTION_ARGS)
{
	PsStream   *stream;
	PsPartitionEnd *ends;
	Datum	   *topics;
	Datum	   *partitions;
	Datum	   *offsets;
	int			n = elements_of(PG_GETARG_ARRAYTYPE_P(1), &topics);
	int			nread = 0;
	bool		reached;

	ps_check_argument(elements_of(PG_GETARG_ARRAYTYPE_P(2), &partitions) == n && elements_of(PG_GETARG_ARRAYTYPE_P(3), &offsets) == n,
					  "there must be an offset for each partition");
	ends = palloc(Max(n, 1) * sizeof(PsPartitionEnd));
	SPI_connect();
	stream = ps_find_stream(PG_GETARG_TEXT_PP(0), false);
	for (int i = 0; i < n && ps_shards_any_here(); i++)
		if (ps_stream_reads(stream, DatumGetInt32(partitions[i])))
			ends[nread++] = (PsPartitionEnd)
		{
			TextDatumGetCString(topics[i]), DatumGetInt32(partitions[i]), DatumGetInt64(offsets[i])
		};
	reached = ps_stream_reached(stream->stream_id, ends, nread);
	SPI_finish();
	PG_RETURN_BOOL(reached);
}

PS_FUNCTION(ps_wait_for_offset);
static Datum
ps_wait_for_offset_checked(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	PsMoment	deadline;
	Wait		wait;

	for (int i = 0; i < 4; i++)
		if (PG_ARGISNULL(i))
			PG_RETURN_NULL();
	deadline = ps_get_deadline(fcinfo, 3);
	SPI_connect();
	MemoryContextSwitchTo(caller);
	wait = wait_of_offset(fcinfo, deadline);
	SPI_finish();
	wait_for(&wait);
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_await_offset);
static Datum
ps_await_offset_checked(PG_FUNCTION_ARGS)
{
	PsMoment	deadline;
	Wait		wait;

	begin_wait(fcinfo, "await_offset()", "wait_for_offset()");
	deadline = ps_get_deadline(fcinfo, 3);
	wait = wait_of_offset(fcinfo, deadline);
	wait_without_snapshot(&wait);
	SPI_finish();
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_wait_for_stream);
static Datum
ps_wait_for_stream_checked(PG_FUNCTION_ARGS)
{
	Wait		wait = {.deadline = ps_get_deadline(fcinfo, 1)};
	MemoryContext caller = CurrentMemoryContext;
	List	   *topics;

	SPI_connect();
	MemoryContextSwitchTo(caller);
	wait.stream = ps_find_stream(PG_GETARG_TEXT_PP(0), true);
	topics = ps_get_topics(fcinfo, PG_NARGS(), wait.stream);
	SPI_finish();
	ask_for_ends(&wait, topics, options_of(wait.stream));
	wait_for(&wait);
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_await_stream);
static Datum
ps_await_stream_checked(PG_FUNCTION_ARGS)
{
	Wait		wait = {0};
	List	   *options;
	List	   *topics;

	begin_wait(fcinfo, "await_stream()", "wait_for_stream()");
	wait.deadline = ps_get_deadline(fcinfo, 1);
	wait.stream = ps_find_stream(PG_GETARG_TEXT_PP(0), true);
	topics = ps_get_topics(fcinfo, PG_NARGS(), wait.stream);
	options = options_of(wait.stream);
	SPI_commit();				/* the answer of the broker may take long */
	ask_for_ends(&wait, topics, options);
	wait_without_snapshot(&wait);
	SPI_finish();
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_test_connection);
static Datum
ps_test_connection_checked(PG_FUNCTION_ARGS)
{
	const char *server = NameStr(*PG_GETARG_NAME(0));
	bool		is_address = strchr(server, ':') != NULL && GetForeignServerByName(server, true) == NULL;
	PsTopic		topic = {0, text_to_cstring(PG_GETARG_TEXT_PP(1))};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Jsonb	   *no_options = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	PsProbeAnswer *answer;

	InitMaterializedSRF(fcinfo, 0);
	answer = ps_probe(ps_connection_options(is_address ? NULL : server, is_address ? server : NULL, no_options, GetUserId()),
					  list_make1(&topic), -1, 10000);
	ps_check_answer(answer);
	for (int i = 0; i < answer->topics[0].npartitions; i++)
	{
		Datum		values[3] = {Int32GetDatum(i), Int64GetDatum(answer->partitions[i].low),
		Int64GetDatum(answer->partitions[i].high)};
		bool		nulls[3] = {false, false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
