/*
 * wait_for.c
 *	  wait_for_offset(), wait_for_stream() and test_connection(). The two last ones ask the
 *	  broker for the end offsets.
 */
#include "postgres.h"

#include <limits.h>

#include "api/caller.h"
#include "clock.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "ingest/probe.h"
#include "ingest/worker.h"
#include "kafka/options.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"

/* Polls stream_offsets until each partition has reached its end; PG_INT64_MIN: it is not waited for. */
static void
wait_for_ends(PsStream *stream, const int64 *ends, int n, PsMoment deadline)
{
	for (long pause = 5;; pause = Min(100, pause * 2))
	{
		bool		reached;
		char	   *state;

		CHECK_FOR_INTERRUPTS();
		SPI_connect();
		PushActiveSnapshot(GetLatestSnapshot());
		reached = ps_stream_reached(stream->stream_id, ends, n);
		PopActiveSnapshot();
		if (!reached && ps_clock_now() >= deadline)
		{
			state = ps_stream_describe(stream->name);
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("stream \"%s\" did not reach the end in time", stream->name),
					 errdetail("Its state is %s.", state),
					 errhint("See profile_stream.stat_streams. Pass a longer timeout when the stream only lags.")));
		}
		SPI_finish();
		if (reached)
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pause, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

static PsMoment
deadline_after(Interval *timeout)
{
	return ps_clock_now() + ps_interval_us(timeout);
}

PG_FUNCTION_INFO_V1(ps_wait_for_offset);
Datum
ps_wait_for_offset(PG_FUNCTION_ARGS)
{
	int			partition = PG_GETARG_INT32(1);
	PsMoment	deadline = deadline_after(PG_GETARG_INTERVAL_P(3));
	MemoryContext caller = CurrentMemoryContext;
	PsStream   *stream;
	int64	   *ends;

	ps_check_argument(partition >= 0 && partition < PS_PROBE_PARTITIONS, psprintf("partition must be 0 to %d", PS_PROBE_PARTITIONS - 1));
	ends = palloc((partition + 1) * sizeof(int64));
	for (int i = 0; i < partition; i++)
		ends[i] = PG_INT64_MIN;
	ends[partition] = PG_GETARG_INT64(2) + 1;
	SPI_connect();
	MemoryContextSwitchTo(caller);
	stream = ps_find_stream(PG_GETARG_TEXT_PP(0), false);
	SPI_finish();
	wait_for_ends(stream, ends, partition + 1, deadline);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_wait_for_stream);
Datum
ps_wait_for_stream(PG_FUNCTION_ARGS)
{
	PsMoment	deadline = deadline_after(PG_GETARG_INTERVAL_P(1));
	MemoryContext caller = CurrentMemoryContext;
	PsStream   *stream;
	PsProbeAnswer *answer;
	int64	   *ends;

	SPI_connect();
	MemoryContextSwitchTo(caller);
	stream = ps_find_stream(PG_GETARG_TEXT_PP(0), true);
	SPI_finish();
	answer = ps_probe(ps_connection_options(stream->server, stream->bootstrap_servers, stream->options,
											ps_stream_owner(stream)),
					  stream->topic, -1, (int) Min(INT_MAX, ps_interval_us(PG_GETARG_INTERVAL_P(1)) / 1000));
	ps_check_answer(answer, stream->topic);
	ends = palloc(Max(answer->npartitions, 1) * sizeof(int64));
	for (int i = 0; i < answer->npartitions; i++)
		ends[i] = ps_stream_reads(stream, i) ? answer->partitions[i].high : PG_INT64_MIN;
	wait_for_ends(stream, ends, answer->npartitions, deadline);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_test_connection);
Datum
ps_test_connection(PG_FUNCTION_ARGS)
{
	char	   *topic = text_to_cstring(PG_GETARG_TEXT_PP(1));
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Jsonb	   *no_options = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	PsProbeAnswer *answer;

	InitMaterializedSRF(fcinfo, 0);
	answer = ps_probe(ps_connection_options(NameStr(*PG_GETARG_NAME(0)), NULL, no_options, GetUserId()),
					  topic, -1, 10000);
	ps_check_answer(answer, topic);
	for (int i = 0; i < answer->npartitions; i++)
	{
		Datum		values[3] = {Int32GetDatum(i), Int64GetDatum(answer->partitions[i].low),
		Int64GetDatum(answer->partitions[i].high)};
		bool		nulls[3] = {false, false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
