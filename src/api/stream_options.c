/*
 * stream_options.c
 *	  create_stream() and alter_stream(): a stream's settings, read and checked.
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/caller.h"
#include "apply/notify.h"
#include "catalog/pg_type.h"
#include "core/field_map.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "ingest/worker.h"
#include "kafka/client.h"
#include "kafka/options.h"
#include "miscadmin.h"
#include "process/lease.h"
#include "sink/redis_client.h"
#include "sink/redis_options.h"
#include "store/distributed.h"
#include "store/extension.h"
#include "store/lock_wait.h"
#include "store/outbox.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"

/* Arguments, taken one after the other; one that is null leaves what it would set. */
typedef struct Arguments
{
	FunctionCallInfo fcinfo;
	int			next;
	bool		required;		/* none but those with a null of their own may be null */
} Arguments;

/* Whether the next argument is given; then it is at next - 1. */
static bool
stream_options_given(Arguments *arguments, bool nullable)
{
	bool		isnull = arguments->fcinfo->args[arguments->next++].isnull;

	ps_check_argument(!isnull || nullable || !arguments->required,
					  "only server, bootstrap_servers, notify_channel, late_tolerance, partitions, sinks, segment_channel_prefix and field_map may be null");
	return !isnull;
}

static Datum
stream_options_value(Arguments *arguments)
{
	return arguments->fcinfo->args[arguments->next - 1].value;
}

static void
take_text(Arguments *arguments, char **word, bool nullable)
{
	if (stream_options_given(arguments, nullable))
		*word = TextDatumGetCString(stream_options_value(arguments));
}

/* The same, where an empty one takes away what is set. */
static void
take_optional_text(Arguments *arguments, char **word)
{
	take_text(arguments, word, true);
	if (*word != NULL && *word[0] == '\0')
		*word = NULL;
}

static void
take_int(Arguments *arguments, int *number)
{
	if (stream_options_given(arguments, false))
		*number = DatumGetInt32(stream_options_value(arguments));
}

static void
take_interval(Arguments *arguments, int64 *us, bool nullable)
{
	if (stream_options_given(arguments, nullable))
		*us = ps_interval_us(DatumGetIntervalP(stream_options_value(arguments)));
}

/* Takes an array of partitions, sorted and without repeats; an empty one stands for all. */
static void
take_partitions(Arguments *arguments, PsStream *stream)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	if (!stream_options_given(arguments, true))
		return;
	deconstruct_array(DatumGetArrayTypeP(stream_options_value(arguments)), INT4OID, sizeof(int32), true, TYPALIGN_INT, &elements, &nulls, &n);
	stream->partitions = palloc(Max(n, 1) * sizeof(int32));
	stream->npartitions = n;
	for (int i = 0; i < n; i++)
	{
		ps_check_argument(!nulls[i] && DatumGetInt32(elements[i]) >= 0, "partitions must not be negative");
		stream->partitions[i] = DatumGetInt32(elements[i]);
	}
}

/* Takes a format, which drops the map of another one, and a map; an empty one is none. */
static void
take_format(Arguments *arguments, PsStream *stream)
{
	const char *before = stream->format;

	take_text(arguments, &stream->format, false);
	if (before != NULL && strcmp(before, stream->format) != 0)
		stream->field_map = NULL;
	if (stream_options_given(arguments, true))
		stream->field_map = DatumGetJsonbPCopy(stream_options_value(arguments));
	if (stream->field_map != NULL && JB_ROOT_IS_OBJECT(stream->field_map) && JB_ROOT_COUNT(stream->field_map) == 0)
		stream->field_map = NULL;
}

/* Takes the settings that create_stream() and alter_stream() have in common, in the order of both. */
static void
take_settings(Arguments *arguments, PsStream *stream)
{
	int64		batch_wait_us = stream->batch_wait_ms * INT64CONST(1000);
	int64		customer_lock_timeout_us = stream->customer_lock_timeout_ms * INT64CONST(1000);
	int64		redis_ttl_us = stream->redis_ttl_s * USECS_PER_SEC;

	take_int(arguments, &stream->batch_size);
	take_interval(arguments, &batch_wait_us, false);
	take_interval(arguments, &stream->dedupe_retention_us, false);
	take_text(arguments, &stream->on_offset_lost, false);
	take_optional_text(arguments, &stream->notify_channel);
	take_text(arguments, &stream->notify, false);
	if (stream_options_given(arguments, false))
		stream->options = DatumGetJsonbPCopy(stream_options_value(arguments));
	take_interval(arguments, &stream->reorder_wait_us, false);
	take_int(arguments, &stream->reorder_buffer_size);
	take_interval(arguments, &stream->late_tolerance_us, true);
	ps_check_argument(arguments->fcinfo->args[arguments->next - 1].isnull || stream->late_tolerance_us >= 0,
					  "late_tolerance must not be negative");
	take_int(arguments, &stream->workers);
	take_partitions(arguments, stream);
	if (stream_options_given(arguments, false))
		stream->dead_letter_pause_ratio = DatumGetFloat8(stream_options_value(arguments));
	take_interval(arguments, &customer_lock_timeout_us, false);
	ps_check_argument(customer_lock_timeout_us >= 0 && customer_lock_timeout_us <= USECS_PER_MINUTE, "customer_lock_timeout must be 0 to 60 seconds");
	stream->customer_lock_timeout_ms = (int) (customer_lock_timeout_us / 1000);
	take_optional_text(arguments, &stream->sinks[PS_SINK_REDIS]);
	take_text(arguments, &stream->redis_prefix, false);
	take_interval(arguments, &redis_ttl_us, false);
	ps_check_argument(redis_ttl_us >= USECS_PER_SEC && redis_ttl_us <= 365 * USECS_PER_DAY, "redis_ttl must be 1 second to 365 days");
	stream->redis_ttl_s = (int) (redis_ttl_us / USECS_PER_SEC);
	take_optional_text(arguments, &stream->sinks[PS_SINK_CHANGELOG]);
	take_optional_text(arguments, &stream->sinks[PS_SINK_DEAD_LETTERS]);
	take_optional_text(arguments, &stream->segment_channel_prefix);
	take_format(arguments, stream);
	take_text(arguments, &stream->timestamp_unit, false);
	ps_check_argument(batch_wait_us >= 0 && batch_wait_us <= USECS_PER_MINUTE, "batch_wait must be 0 to 60 seconds");
	stream->batch_wait_ms = (int) (batch_wait_us / 1000);
}

/* Whether a word is one of three. */
static bool
is_one_of(const char *word, const char *a, const char *b, const char *c)
{
	return strcmp(word, a) == 0 || strcmp(word, b) == 0 || strcmp(word, c) == 0;
}

/* A topic that is written: what the stream writes it must not read. */
static void
check_topic(const PsStream *stream, PsSinkKind kind)
{
	const char *topic = stream->sinks[kind];

	if (topic == NULL)
		return;
	ps_check_argument(strlen(topic) < 250 && strspn(topic, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == strlen(topic),
					  "changelog_topic and dead_letter_topic must have at most 249 letters, digits, dots, underscores and hyphens");
	ps_check_argument(strcmp(topic, stream->topic) != 0, "changelog_topic and dead_letter_topic must not be the topic that is read");
}

static void
check_settings(const PsStream *stream)
{
	ps_check_argument(stream->server == NULL || stream->bootstrap_servers == NULL, "server and brokers exclude each other");
	ps_check_argument(stream->name[0] != '\0' && strlen(stream->name) < NAMEDATALEN, "name must have 1 to 63 bytes");
	ps_check_argument(stream->topic[0] != '\0' && strlen(stream->topic) < 250, "topic must have 1 to 249 bytes");
	ps_check_argument(stream->group_id[0] != '\0', "group_id must not be empty");
	ps_check_argument(stream->batch_size >= 1 && stream->batch_size <= 100000, "batch_size must be 1 to 100000");
	ps_check_argument(stream->dedupe_retention_us >= 0, "dedupe_retention must not be negative");
	ps_check_argument(stream->reorder_wait_us >= 0 && stream->reorder_wait_us <= USECS_PER_DAY,
					  "reorder_wait must be 0 to 1 day");
	ps_check_argument(stream->reorder_buffer_size >= 2, "reorder_buffer_size must be at least 2");
	ps_check_argument(is_one_of(stream->on_offset_lost, "stop", "earliest", "latest"),
					  "on_offset_lost must be stop, earliest or latest");
	ps_check_argument(is_one_of(stream->notify, "customer", "batch", "off"), "notify must be customer, batch or off");
	ps_check_argument(stream->notify_channel == NULL || strlen(stream->notify_channel) < NAMEDATALEN,
					  "notify_channel must have at most 63 bytes");
	ps_check_argument(stream->segment_channel_prefix == NULL || strlen(stream->segment_channel_prefix) <= PS_MAX_SEGMENT_PREFIX,
					  "segment_channel_prefix must have 1 to 47 bytes");
	ps_check_argument(stream->workers >= 1 && stream->workers <= PS_MAX_WORKERS, "workers must be 1 to 64");
	ps_check_argument(stream->dead_letter_pause_ratio > 0 && stream->dead_letter_pause_ratio <= 1,
					  "dead_letter_pause_ratio must be more than 0, and at most 1, which never pauses");
	check_topic(stream, PS_SINK_CHANGELOG);
	check_topic(stream, PS_SINK_DEAD_LETTERS);
	ps_check_argument(stream->sinks[PS_SINK_CHANGELOG] == NULL || stream->sinks[PS_SINK_DEAD_LETTERS] == NULL ||
					  strcmp(stream->sinks[PS_SINK_CHANGELOG], stream->sinks[PS_SINK_DEAD_LETTERS]) != 0,
					  "changelog_topic and dead_letter_topic must differ");
	(void) ps_field_map_compile(stream->format, stream->field_map);
	(void) ps_time_unit(stream->timestamp_unit);
	ps_check_argument(strcmp(stream->event_id_scope, "customer") == 0 || strcmp(stream->event_id_scope, "stream") == 0,
					  "event_id_scope must be customer or stream");
}

/* Raises unless that role may use the stream's Redis, if any. */
static void
check_redis(const PsStream *stream, Oid role)
{
	if (stream->sinks[PS_SINK_REDIS] == NULL)
		return;
	ps_redis_check_built();
	(void) ps_redis_target(stream->sinks[PS_SINK_REDIS], role);
}

/* A time as text that means the same whatever the worker's time zone. */
static char *
absolute_time(const char *time)
{
	Datum		at = DirectFunctionCall3(timestamptz_in, CStringGetDatum(time),
										 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));

	ps_check_argument(!TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(at)), "start_from must be finite");
	return pstrdup(timestamptz_to_str(DatumGetTimestampTz(at)));
}

/* Reads create_stream's arguments. */
static PsStream *
read_stream(FunctionCallInfo fcinfo)
{
	Arguments	arguments = {fcinfo, 0, true};
	PsStream   *stream = palloc0(sizeof(PsStream));

	stream->owner = GetUserId();
	stream->late_tolerance_us = -1;
	take_text(&arguments, &stream->name, false);
	if (stream_options_given(&arguments, true))
		stream->server = NameStr(*DatumGetName(stream_options_value(&arguments)));
	take_text(&arguments, &stream->bootstrap_servers, true);
	if (stream->server == NULL && stream->bootstrap_servers == NULL)
		stream->bootstrap_servers = "localhost:9092";
	take_text(&arguments, &stream->topic, false);
	take_text(&arguments, &stream->group_id, false);
	take_text(&arguments, &stream->start_from, false);
	take_settings(&arguments, stream);
	take_text(&arguments, &stream->event_id_scope, false);	/* with another one all that was applied could be again */
	check_settings(stream);
	if (strcmp(stream->start_from, "earliest") != 0 && strcmp(stream->start_from, "latest") != 0)
		stream->start_from = absolute_time(stream->start_from);
	return stream;
}

PG_FUNCTION_INFO_V1(ps_create_stream);
Datum
ps_create_stream(PG_FUNCTION_ARGS)
{
	PsStream   *stream = read_stream(fcinfo);
	PsSavedUser saved;

	PreventCommandIfReadOnly("create_stream()");
	ps_check_may_run(GetUserId());
	ps_extension_check();
	ps_distributed_check();
	ps_kafka_check_values(ps_connection_options(stream->server, stream->bootstrap_servers, stream->options, GetUserId()));
	check_redis(stream, GetUserId());
	SPI_connect();
	saved = ps_switch_to_owner();
	if (ps_stream_find(stream->name, 0) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("stream \"%s\" already exists", stream->name),
				 errhint("Change it with alter_stream(), or choose another name.")));
	ps_check_slots(stream, 0);
	ps_stream_add(stream);
	ps_start_at_commit(stream, true);
	ps_restore_user(saved);
	SPI_finish();
	if (!process_shared_preload_libraries_done || strstr(GetConfigOption("shared_preload_libraries", true, false), "profile_stream") == NULL)
		ereport(NOTICE,
				(errmsg("stream \"%s\" will not come back by itself after a server restart", stream->name),
				 errhint("Add profile_stream to shared_preload_libraries, or call profile_stream.start_streams() after a restart.")));
	PG_RETURN_VOID();
}

/* Reads alter_stream's arguments over the stream as it is. */
static void
read_changes(FunctionCallInfo fcinfo, PsStream *stream, Oid *owner)
{
	Arguments	arguments = {fcinfo, 1, false};
	bool		has_server = stream_options_given(&arguments, true);
	char	   *server = has_server ? NameStr(*DatumGetName(stream_options_value(&arguments))) : NULL;
	char	   *bootstrap_servers = NULL;

	take_text(&arguments, &bootstrap_servers, true);
	if (server != NULL || bootstrap_servers != NULL)
	{
		stream->server = server;
		stream->bootstrap_servers = bootstrap_servers;
	}
	take_text(&arguments, &stream->group_id, false);
	take_settings(&arguments, stream);
	check_settings(stream);
	if (stream_options_given(&arguments, true))
		*owner = get_role_oid(NameStr(*DatumGetName(stream_options_value(&arguments))), false);
}

/* Raises unless the caller may give the stream to a role, as for ALTER ... OWNER TO, and that role may have it. */
static void
check_new_owner(Oid owner)
{
	ps_check_set_role(owner);
	ps_check_may_run(owner);
}

static Datum
alter_stream(PG_FUNCTION_ARGS)
{
	PsStream   *stream;
	PsSavedUser saved;
	Oid			owner;
	bool		given_away;

	ps_check_argument(!PG_ARGISNULL(0), "name must not be null");
	PreventCommandIfReadOnly("alter_stream()");
	SPI_connect();
	stream = ps_find_stream(PG_GETARG_TEXT_PP(0), true);
	owner = stream->owner;
	read_changes(fcinfo, stream, &owner);
	given_away = owner != stream->owner;
	stream->owner = owner;
	if (given_away)
		check_new_owner(owner);
	/* who may name brokers, and whose password is used, depends on the owner */
	ps_kafka_check_values(ps_connection_options(stream->server, stream->bootstrap_servers, stream->options, ps_stream_owner(stream)));
	check_redis(stream, ps_stream_owner(stream));
	ps_lease_hold_back(stream->stream_id);	/* its workers, and its relays, which would meet us in the outbox */
	saved = ps_switch_to_owner();
	if (stream->enabled)
		ps_check_slots(stream, 0);
	ps_stream_alter(stream);
	if (given_away)
		ps_stream_give(stream->stream_id, owner);
	ps_outbox_clear(stream->stream_id);
	if (stream->enabled)
		ps_start_at_commit(stream, given_away); /* those of the old owner leave */
	ps_restore_user(saved);
	SPI_finish();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_alter_stream);
Datum
ps_alter_stream(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, alter_stream, "alter_stream()", PS_SESSION_WAIT_MS);
}
