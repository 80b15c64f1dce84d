/*
 * seek.c
 *	  seek_stream() moves a paused stream to other offsets.
 *
 *	  Messages that are read again are duplicates only while their ids are remembered. So
 *	  a target before dedupe_retention is refused. stream_gaps records each move.
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/caller.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "ingest/probe.h"
#include "kafka/options.h"
#include "miscadmin.h"
#include "process/lease.h"
#include "store/lock_wait.h"
#include "store/topic_catalog.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"

#define PROBE_MS 10000

/* Asks the brokers for the partitions and their offsets at a time; raises when they do not answer. */
static PsProbeAnswer *
seek_probe(const PsStream *stream, TimestampTz at)
{
	PsProbeAnswer *answer = ps_probe(ps_connection_options(stream->server, stream->bootstrap_servers, stream->options,
														   ps_stream_owner(stream)),
									 stream->topic, ps_kafka_time(at), PROBE_MS);

	ps_check_answer(answer, stream->topic);
	return answer;
}

/* Reads {"partition": offset, ...} into targets. Partitions that are not named keep theirs. */
static void
read_offsets(const char *to, int64 *targets, int n)
{
	Jsonb	   *offsets = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(to)));
	JsonbIterator *it = JsonbIteratorInit(&offsets->root);
	JsonbValue	value;
	JsonbIteratorToken token;
	long		partition = -1;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			char	   *key = pnstrdup(value.val.string.val, value.val.string.len);
			char	   *end;

			errno = 0;
			partition = strtol(key, &end, 10);
			ps_check_argument(*key >= '0' && *key <= '9' && *end == '\0' && errno == 0,
							  "\"to\" must name partitions by their numbers");
			if (partition >= n)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("partition %ld does not exist", partition),
						 errhint("The topic has %d partitions.", n)));
		}
		else if (token == WJB_VALUE)
		{
			ps_check_argument(value.type == jbvNumeric, "\"to\" must give an offset for each partition");
			targets[partition] = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(value.val.numeric)));
			ps_check_argument(targets[partition] >= 0, "\"to\" must give an offset for each partition");
		}
	}
}

/* Finds the target of each partition, -1: it stays. Returns the answer of the brokers. */
static PsProbeAnswer *
find_targets(const PsStream *stream, const char *to, int64 **targets)
{
	bool		earliest = strcmp(to, "earliest") == 0;
	bool		latest = strcmp(to, "latest") == 0;
	bool		by_time = !earliest && !latest && *to != '{';
	TimestampTz at = DT_NOBEGIN;
	PsProbeAnswer *answer;

	if (by_time)
		at = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(to),
													 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	ps_check_argument(!by_time || !TIMESTAMP_NOT_FINITE(at), "the time must be finite");
	answer = seek_probe(stream, at);
	*targets = palloc(Max(answer->npartitions, 1) * sizeof(int64));
	for (int p = 0; p < answer->npartitions; p++)
	{
		const PsLookupPartition *partition = &answer->partitions[p];

		(*targets)[p] = earliest ? partition->low : latest ? partition->high : !by_time ? -1 :
			partition->at_time >= 0 ? partition->at_time : partition->high;
		if (!ps_stream_reads(stream, p))
			(*targets)[p] = -1;
	}
	if (*to == '{')
		read_offsets(to, *targets, answer->npartitions);
	for (int p = 0; p < answer->npartitions; p++)
		if ((*targets)[p] >= 0 && ((*targets)[p] < answer->partitions[p].low || (*targets)[p] > answer->partitions[p].high))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("partition %d has no offset " INT64_FORMAT, p, (*targets)[p]),
					 errhint("The topic has " INT64_FORMAT " to " INT64_FORMAT ".",
							 answer->partitions[p].low, answer->partitions[p].high)));
	return answer;
}

/* Raises when the stream would read messages again whose event ids may have been removed. */
static void
check_retention(const PsStream *stream, List *rows, const int64 *targets)
{
	PsProbeAnswer *answer = NULL;
	ListCell   *cell;

	foreach(cell, rows)
	{
		PsStoredOffset *row = lfirst(cell);
		int64		again = Max(row->start_offset, targets[row->partition]);
		int64		known;

		if (targets[row->partition] < 0 || again >= row->read_offset)
			continue;
		if (answer == NULL)
			answer = seek_probe(stream, GetCurrentTimestamp() - stream->dedupe_retention_us);
		known = row->partition < answer->npartitions ? answer->partitions[row->partition].at_time : -1;
		if (known < 0 || again < known)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("messages of partition %d from offset " INT64_FORMAT " on may be older than dedupe_retention",
							row->partition, again),
					 errdetail("Their event ids may have been removed, so that they would be applied twice."),
					 errhint("Seek to a later offset or time, or replay the topic with rebuild().")));
	}
}

/* Leaves out partitions that the topic does not have. */
static List *
rows_within(List *rows, int n)
{
	List	   *within = NIL;
	ListCell   *cell;

	foreach(cell, rows)
		if (((PsStoredOffset *) lfirst(cell))->partition < n)
		within = lappend(within, lfirst(cell));
	return within;
}

/* Whether a partition no longer has the last message that the stream read: the topic was created anew. */
static bool
is_shorter(List *rows, int partition, int64 high)
{
	ListCell   *cell;

	foreach(cell, rows)
	{
		PsStoredOffset *row = lfirst(cell);

		if (row->partition == partition)
			return row->check.offset >= high;
	}
	return false;
}

static Datum
seek_stream(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	PsStream   *stream;
	PsProbeAnswer *answer;
	int64	   *targets;
	List	   *rows;
	PsTopic    *topic;

	PreventCommandIfReadOnly("seek_stream()");
	SPI_connect();
	MemoryContextSwitchTo(caller);
	stream = ps_find_stream(PG_GETARG_TEXT_PP(0), true);
	if (stream->enabled || !ps_lease_bar_workers(stream->stream_id))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("stream \"%s\" is running", stream->name),
				 errhint("Call pause_stream(), commit, and then seek_stream().")));
	answer = find_targets(stream, text_to_cstring(PG_GETARG_TEXT_PP(1)), &targets);
	PushActiveSnapshot(GetLatestSnapshot());	/* to see the last commits of the workers */
	rows = rows_within(ps_stream_offsets(stream->stream_id), answer->npartitions);
	check_retention(stream, rows, targets);
	topic = linitial(ps_topics_number(stream));
	for (int p = 0; p < answer->npartitions; p++)
	{
		PsPosition	to = {topic->topic_no, p, targets[p]};

		if (targets[p] >= 0)
			ps_stream_seek(stream->stream_id, &to, is_shorter(rows, p, answer->partitions[p].high));
	}
	PopActiveSnapshot();
	SPI_finish();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_seek_stream);
Datum
ps_seek_stream(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, seek_stream, "seek_stream()", PS_SESSION_WAIT_MS);
}
