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
#include "store/extension.h"
#include "store/lock_wait.h"
#include "store/topic_catalog.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"

#define PROBE_MS 10000

/* Where the partitions of a topic go. */
typedef struct Target
{
	const PsProbeTopic *topic;
	const PsProbeAnswer *answer;
	int64	   *offsets;		/* -1: the partition stays */
} Target;

/* Asks the brokers for topics' partitions and their offsets at a time; raises when they do not answer. */
static PsProbeAnswer *
seek_probe(const PsStream *stream, List *topics, TimestampTz at)
{
	PsProbeAnswer *answer = ps_probe(ps_connection_options(stream->server, stream->bootstrap_servers, stream->options,
														   ps_stream_owner(stream)),
									 topics, ps_kafka_time(at), PROBE_MS);

	ps_check_answer(answer);
	return answer;
}

/* Reads {"partition": offset, ...} into a target. Partitions that are not named keep theirs. */
static void
read_offsets(const char *to, Target *target)
{
	Jsonb	   *offsets = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(to)));
	JsonbIterator *it = JsonbIteratorInit(&offsets->root);
	JsonbValue	value;
	JsonbIteratorToken token;
	long		partition = -1;

	ps_check_argument(JB_ROOT_COUNT(offsets) > 0, "\"to\" must name one partition or more");
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
			if (partition >= target->topic->npartitions)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("partition %ld does not exist", partition),
						 errhint("The topic has %d partitions.", target->topic->npartitions)));
		}
		else if (token == WJB_VALUE)
		{
			int64		offset;

			ps_check_argument(value.type == jbvNumeric, "\"to\" must give an offset for each partition");
			offset = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(value.val.numeric)));
			ps_check_argument(offset >= 0, "\"to\" must give an offset for each partition");
			target->offsets[partition] = offset;
		}
	}
}

/* Where a word or a time sends a partition. */
static int64
offset_of(const PsLookupPartition *partition, const char *to)
{
	if (*to == '{')
		return -1;
	if (strcmp(to, "earliest") == 0)
		return partition->low;
	if (strcmp(to, "latest") == 0 || partition->at_time < 0)
		return partition->high;
	return partition->at_time;
}

/* Raises unless the topic has each offset. */
static void
check_offsets(const Target *target)
{
	for (int p = 0; p < target->topic->npartitions; p++)
	{
		const PsLookupPartition *partition = ps_probe_partition(target->answer, target->topic, p);

		if (target->offsets[p] >= 0 && (target->offsets[p] < partition->low || target->offsets[p] > partition->high))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("partition %d has no offset " INT64_FORMAT, p, target->offsets[p]),
					 errhint("The topic has " INT64_FORMAT " to " INT64_FORMAT ".", partition->low, partition->high)));
	}
}

/* The time that a stream is moved to, DT_NOBEGIN when it is moved to something else. */
static TimestampTz
read_target_time(const char *to)
{
	TimestampTz at;

	if (strcmp(to, "earliest") == 0 || strcmp(to, "latest") == 0 || *to == '{')
		return DT_NOBEGIN;
	at = ps_read_time(to, "\"to\" must be earliest, latest, a time, or an object as {\"0\": 120} of partitions and offsets");
	ps_check_argument(!TIMESTAMP_NOT_FINITE(at), "the time must be finite");
	return at;
}

/* Finds the target of each partition of topics that exist. */
static List *
find_targets(const PsStream *stream, List *topics, const char *to, TimestampTz at)
{
	PsProbeAnswer *answer;
	List	   *targets = NIL;

	ps_check_argument(*to != '{' || list_length(topics) == 1, "the stream reads several topics: topic must name the one whose offsets these are");
	answer = seek_probe(stream, topics, at);
	for (int t = 0; t < answer->ntopics; t++)
	{
		Target	   *target = palloc(sizeof(Target));

		target->topic = &answer->topics[t];
		target->answer = answer;
		target->offsets = palloc(Max(target->topic->npartitions, 1) * sizeof(int64));
		for (int p = 0; p < target->topic->npartitions; p++)
			target->offsets[p] = ps_stream_reads(stream, p) ? offset_of(ps_probe_partition(answer, target->topic, p), to) : -1;
		if (*to == '{')
			read_offsets(to, target);
		check_offsets(target);
		targets = lappend(targets, target);
	}
	return targets;
}

/* Where a row goes, -1: it stays. */
static int64
target_of(List *targets, const PsStoredOffset *row)
{
	ListCell   *cell;

	foreach(cell, targets)
	{
		const Target *target = lfirst(cell);

		if (strcmp(target->topic->name, row->topic) == 0 && row->partition < target->topic->npartitions)
			return target->offsets[row->partition];
	}
	return -1;
}

/* The offset of a partition at the time that was asked for, -1: it has none. */
static int64
offset_at_time(const PsProbeAnswer *answer, const PsStoredOffset *row)
{
	for (int t = 0; t < answer->ntopics; t++)
		if (strcmp(answer->topics[t].name, row->topic) == 0 && row->partition < answer->topics[t].npartitions)
			return ps_probe_partition(answer, &answer->topics[t], row->partition)->at_time;
	return -1;
}

/* Raises when the stream would read messages again whose event ids may have been removed. */
static void
check_retention(const PsStream *stream, List *topics, List *rows, List *targets)
{
	PsProbeAnswer *answer = NULL;
	ListCell   *cell;

	foreach(cell, rows)
	{
		PsStoredOffset *row = lfirst(cell);
		int64		offset = target_of(targets, row);
		int64		again = Max(row->start_offset, offset);
		int64		known;

		if (offset < 0 || again >= row->read_offset)
			continue;
		if (answer == NULL)
			answer = seek_probe(stream, topics, GetCurrentTimestamp() - stream->dedupe_retention_us);
		known = offset_at_time(answer, row);
		if (known < 0 || again < known)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("messages of partition %d from offset " INT64_FORMAT " on may be older than dedupe_retention",
							row->partition, again),
					 errdetail("Their event ids may have been removed, so that they would be applied twice."),
					 errhint("Seek to a later offset or time, or replay the topic with rebuild().")));
	}
}

/* Whether a partition no longer has the last message that the stream read: the topic was created anew. */
static bool
is_shorter(List *rows, const char *topic, int partition, int64 high)
{
	ListCell   *cell;

	foreach(cell, rows)
	{
		PsStoredOffset *row = lfirst(cell);

		if (strcmp(row->topic, topic) == 0 && row->partition == partition)
			return row->check.offset >= high;
	}
	return false;
}

/* Moves the partitions of a topic. */
static void
seek_topic(const PsStream *stream, const Target *target, List *rows)
{
	for (int p = 0; p < target->topic->npartitions; p++)
	{
		PsPosition	to = {target->topic->topic_no, p, target->offsets[p]};

		if (to.offset >= 0)
			ps_stream_seek(stream->stream_id, &to,
						   is_shorter(rows, target->topic->name, p, ps_probe_partition(target->answer, target->topic, p)->high));
	}
}

static Datum
seek_stream(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	char	   *to = text_to_cstring(PG_GETARG_TEXT_PP(1));
	TimestampTz at = read_target_time(to);
	PsStream   *stream;
	List	   *topics;
	List	   *targets;
	List	   *rows;
	ListCell   *cell;

	PreventCommandIfReadOnly("seek_stream()");
	SPI_connect();
	MemoryContextSwitchTo(caller);
	stream = ps_find_stream(PG_GETARG_TEXT_PP(0), true);
	if (stream->enabled || !ps_lease_bar_workers(stream->stream_id))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("stream \"%s\" is running", stream->name),
				 errhint("Call pause_stream(), commit, and then seek_stream().")));
	(void) ps_topics_number(stream);
	topics = ps_get_topics(fcinfo, 2, stream);
	targets = find_targets(stream, topics, to, at);
	PushActiveSnapshot(GetLatestSnapshot());	/* to see the last commits of the workers */
	rows = ps_stream_offsets(stream->stream_id);
	check_retention(stream, topics, rows, targets);
	foreach(cell, targets)
		if (((Target *) lfirst(cell))->topic->topic_no >= 0)
		seek_topic(stream, lfirst(cell), rows);
	PopActiveSnapshot();
	ps_state_log_action(stream->name, "stream", "moved", psprintf("to %.200s", to));
	SPI_finish();
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_seek_stream);
static Datum
ps_seek_stream_checked(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	return ps_call_bounded(fcinfo, seek_stream, "seek_stream()", PS_SESSION_WAIT_MS);
}
