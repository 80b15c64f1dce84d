/*
 * seek.c
 *	  seek_stream() moves a paused stream to other offsets.
 *
 *	  Messages that are read again are duplicates only while their ids are remembered. So
 *	  a target before dedupe_retention is refused. stream_gaps records each move.
 *
 *	  Where profiles are distributed the coordinator finds the offsets, and all nodes get
 *	  these as the target. A node notes where the partitions go (stream_seeks); each shard
 *	  goes there once, when a worker reads its offsets next, on whichever node it is then.
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
#include "store/coordinator_calls.h"
#include "store/distributed.h"
#include "store/extension.h"
#include "store/lock_wait.h"
#include "store/shard_offsets.h"
#include "store/topic_catalog.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"

#define PROBE_MS 10000
#define POLL_MS 20

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

/* A target is given as an object of offsets by partition, or of such objects by topic. */
static Jsonb *
seek_object(const char *to)
{
	return *to == '{' ? DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(to))) : NULL;
}

/* Whether an object has topics. */
static bool
has_topics(Jsonb *object)
{
	JsonbIterator *it = JsonbIteratorInit(&object->root);
	JsonbValue	value;

	for (JsonbIteratorToken token = JsonbIteratorNext(&it, &value, true); token != WJB_DONE; token = JsonbIteratorNext(&it, &value, true))
		if (token == WJB_VALUE)
			return value.type == jbvBinary && JsonContainerIsObject(value.val.binary.data);
	return false;
}

/* The number of a partition. */
static int32
read_partition(const JsonbValue *key)
{
	char	   *digits = pnstrdup(key->val.string.val, key->val.string.len);
	char	   *end;
	long		partition;

	errno = 0;
	partition = strtol(digits, &end, 10);
	ps_check_argument(*digits >= '0' && *digits <= '9' && *end == '\0' && errno == 0 && partition <= PG_INT32_MAX,
					  "\"to\" must name partitions by their numbers");
	return partition;
}

static int64
read_offset(const JsonbValue *value)
{
	int64		offset = -1;

	if (value->type == jbvNumeric)
		offset = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(value->val.numeric)));
	ps_check_argument(offset >= 0, "\"to\" must give an offset for each partition");
	return offset;
}

/* Reads {"partition": offset, ...}: a list of positions without a topic. */
static List *
read_positions(JsonbContainer * offsets)
{
	JsonbIterator *it = JsonbIteratorInit(offsets);
	JsonbValue	value;
	JsonbIteratorToken token;
	PsPosition *position = NULL;
	List	   *positions = NIL;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			position = palloc0(sizeof(PsPosition));
			position->partition = read_partition(&value);
		}
		else if (token == WJB_VALUE)
		{
			position->offset = read_offset(&value);
			positions = lappend(positions, position);
		}
	}
	ps_check_argument(positions != NIL, "\"to\" must name one partition or more");
	return positions;
}

/* Reads the offsets of a topic into a target. Partitions that are not named keep theirs. */
static void
read_offsets(Jsonb *object, Target *target)
{
	JsonbContainer *offsets = &object->root;
	ListCell   *cell;

	if (has_topics(object))
	{
		JsonbValue	buffer;
		JsonbValue *found = getKeyJsonValueFromContainer(offsets, target->topic->name, strlen(target->topic->name), &buffer);

		if (found == NULL)
			return;
		ps_check_argument(found->type == jbvBinary && JsonContainerIsObject(found->val.binary.data), "\"to\" must have an object of offsets for each topic");
		offsets = found->val.binary.data;
	}
	foreach(cell, read_positions(offsets))
	{
		const PsPosition *position = lfirst(cell);

		if (position->partition >= target->topic->npartitions)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("partition %d does not exist", position->partition),
					 errhint("The topic has %d partitions.", target->topic->npartitions)));
		target->offsets[position->partition] = position->offset;
	}
}

/* Raises unless the stream reads the topics of an object. */
static void
check_seek_topics(Jsonb *object, List *topics)
{
	JsonbIterator *it = JsonbIteratorInit(&object->root);
	JsonbValue	value;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		ListCell   *cell;
		bool		found = token != WJB_KEY;

		foreach(cell, topics)
			found |= token == WJB_KEY && strlen(((PsTopic *) lfirst(cell))->name) == value.val.string.len &&
			memcmp(((PsTopic *) lfirst(cell))->name, value.val.string.val, value.val.string.len) == 0;
		if (!found)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("\"to\" names topic \"%s\", which is not moved", pnstrdup(value.val.string.val, value.val.string.len)),
					 errhint("stat_topics shows which topics the stream reads.")));
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
find_targets(const PsStream *stream, List *topics, const char *to, TimestampTz at, bool checked)
{
	PsProbeAnswer *answer;
	Jsonb	   *object = seek_object(to);
	List	   *targets = NIL;

	if (object != NULL && has_topics(object))
		check_seek_topics(object, topics);
	else
		ps_check_argument(object == NULL || list_length(topics) == 1, "the stream reads several topics: topic must name the one whose offsets these are");
	answer = seek_probe(stream, topics, at);
	for (int t = 0; t < answer->ntopics; t++)
	{
		Target	   *target = palloc(sizeof(Target));

		target->topic = &answer->topics[t];
		target->answer = answer;
		target->offsets = palloc(Max(target->topic->npartitions, 1) * sizeof(int64));
		for (int p = 0; p < target->topic->npartitions; p++)
			target->offsets[p] = ps_stream_reads(stream, p) ? offset_of(ps_probe_partition(answer, target->topic, p), to) : -1;
		if (object != NULL)
			read_offsets(object, target);
		if (!checked)
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

/* The offsets of targets by topic, as an argument. */
static char *
text_of_targets(List *targets)
{
	StringInfoData text;
	ListCell   *cell;

	initStringInfo(&text);
	appendStringInfoChar(&text, '{');
	foreach(cell, targets)
	{
		const Target *target = lfirst(cell);
		bool		named = false;

		for (int p = 0; p < target->topic->npartitions; p++)
		{
			if (target->offsets[p] < 0)
				continue;
			if (!named)
			{
				appendStringInfoString(&text, text.len > 1 ? ", " : "");
				escape_json(&text, target->topic->name);
			}
			appendStringInfo(&text, "%s\"%d\": " INT64_FORMAT, named ? ", " : ": {", p, target->offsets[p]);
			named = true;
		}
		appendStringInfoString(&text, named ? "}" : "");
	}
	appendStringInfoChar(&text, '}');
	return text.data;
}

/* Notes where a partition of distributed profiles goes, on this node. */
static void
seek_shards(const PsStream *stream, const char *topic, int32 partition, int64 offset)
{
	PsStreamSeek seek = {topic, partition, ps_coordinator_calls_next(), offset};

	ps_stream_seeks_add(stream->stream_id, &seek);
}

/* Moves the partitions of a topic to offsets that the coordinator has found. What the broker has now is not asked: a node may run the call much later. */
static void
seek_as_told(const PsStream *stream, const char *name, JsonbContainer * offsets)
{
	ListCell   *cell;
	ListCell   *topic;

	foreach(cell, read_positions(offsets))
	{
		PsPosition *position = lfirst(cell);

		seek_shards(stream, name, position->partition, position->offset);
		foreach(topic, ps_topics_known(stream))
		{
			position->topic_no = ((PsTopic *) lfirst(topic))->topic_no;
			if (position->topic_no >= 0 && strcmp(((PsTopic *) lfirst(topic))->name, name) == 0)
				ps_stream_seek(stream->stream_id, position, false);
		}
	}
}

/* Moves a stream as a call of the coordinator says. */
static void
seek_by_call(const PsStream *stream, const char *to)
{
	Jsonb	   *object = seek_object(to);
	JsonbIterator *it;
	JsonbValue	value;
	JsonbIteratorToken token;
	char	   *name = NULL;

	ps_check_argument(object != NULL && (has_topics(object) || JB_ROOT_COUNT(object) == 0), "\"to\" must have an object of offsets for each topic");
	it = JsonbIteratorInit(&object->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE && value.type == jbvBinary && JsonContainerIsObject(value.val.binary.data))
			seek_as_told(stream, name, value.val.binary.data);
	}
}

/* Moves a stream to a target; returns the offsets. */
static char *
seek_to(FunctionCallInfo fcinfo, const PsStream *stream, const char *to, TimestampTz at)
{
	MemoryContext caller = CurrentMemoryContext;
	bool		checked = ps_distributed() && ps_coordinator_calls_has_begun("seek_stream", to);
	List	   *topics;
	List	   *targets;
	List	   *rows;
	ListCell   *cell;

	MemoryContextSwitchTo(caller);
	topics = ps_get_topics(fcinfo, 2, stream);
	targets = find_targets(stream, topics, to, at, checked);
	PushActiveSnapshot(GetLatestSnapshot());	/* to see the last commits of the workers */
	rows = ps_stream_offsets(stream->stream_id);
	if (ps_distributed())
		ps_shard_offsets_widen(stream->name, stream->stream_id, rows);
	if (!checked)
		check_retention(stream, topics, rows, targets);
	foreach(cell, targets)
	{
		const Target *target = lfirst(cell);

		for (int p = 0; ps_distributed() && p < target->topic->npartitions; p++)
			if (target->offsets[p] >= 0)
				seek_shards(stream, target->topic->name, p, target->offsets[p]);
		if (target->topic->topic_no >= 0)
			seek_topic(stream, target, rows);
	}
	PopActiveSnapshot();
	return text_of_targets(targets);
}

/* Keeps the workers of a stream from running. A call of the coordinator comes right after the one that has paused it, and waits for their end. */
static bool
bar_workers(const PsStream *stream)
{
	for (int waited = 0; !ps_lease_bar_workers(stream->stream_id); waited += POLL_MS)
	{
		if (!ps_coordinator_calls_running() || waited >= PS_SESSION_WAIT_MS)
			return false;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(POLL_MS * 1000L);
	}
	return true;
}

static Datum
seek_stream(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	char	   *to = text_to_cstring(PG_GETARG_TEXT_PP(1));
	TimestampTz at = read_target_time(to);
	PsStream   *stream;

	PreventCommandIfReadOnly("seek_stream()");
	SPI_connect();
	MemoryContextSwitchTo(caller);
	stream = ps_find_stream(PG_GETARG_TEXT_PP(0), true);
	if (stream->enabled || !bar_workers(stream))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("stream \"%s\" is running", stream->name),
				 errhint("Call pause_stream(), commit, and then seek_stream().")));
	(void) ps_topics_number(stream);
	if (ps_coordinator_calls_running())
		seek_by_call(stream, to);
	else if (ps_distributed())
		fcinfo->args[1].value = CStringGetTextDatum(seek_to(fcinfo, stream, to, at));	/* what the other nodes get */
	else
		(void) seek_to(fcinfo, stream, to, at);
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
