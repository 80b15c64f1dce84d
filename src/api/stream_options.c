/*
 * stream_options.c
 *	  create_stream() and alter_stream().
 *
 *	  Arguments are matched to options by their names in pg_proc, so that this file knows
 *	  no option but those that depend on each other.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "api/caller.h"
#include "catalog/pg_type.h"
#include "catalog/pg_collation.h"
#include "compat.h"
#include "core/field_map.h"
#include "core/topic_format.h"
#include "core/watch.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "kafka/client.h"
#include "kafka/options.h"
#include "miscadmin.h"
#include "process/lease.h"
#include "sink/sink.h"
#include "store/extension.h"
#include "store/handler_catalog.h"
#include "store/lock_wait.h"
#include "store/outbox.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/syscache.h"

/* The arguments of a call, by name. */
typedef struct Arguments
{
	FunctionCallInfo fcinfo;
	char	  **names;
	int			n;
} Arguments;

static Arguments
name_arguments(FunctionCallInfo fcinfo)
{
	Arguments	arguments = {fcinfo};
	HeapTuple	function = SearchSysCache1(PROCOID, ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
	Oid		   *types;
	char	   *modes;

	if (!HeapTupleIsValid(function))
		elog(ERROR, "cache lookup failed for function %u", fcinfo->flinfo->fn_oid);
	arguments.n = get_func_arg_info(function, &types, &arguments.names, &modes);
	ReleaseSysCache(function);
	return arguments;
}

/* The argument of that name, NULL when the function has none. */
static NullableDatum *
find_argument(const Arguments *arguments, const char *name)
{
	for (int i = 0; i < arguments->n; i++)
		if (strcmp(arguments->names[i], name) == 0)
			return &arguments->fcinfo->args[i];
	return NULL;
}

static void
refuse_option(const PsStreamOption *option, const char *must)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s must %s", option->name, must)));
}

/* A bound of an option as a message says it. */
static char *
describe_bound(const PsStreamOption *option, int64 bound)
{
	static const struct
	{
		int64		us;
		const char *name;
	}			units[] = {{USECS_PER_DAY, "day"}, {USECS_PER_HOUR, "hour"}, {USECS_PER_MINUTE, "minute"}, {USECS_PER_SEC, "second"}};

	for (int i = 0; option->kind == PS_INTERVAL_OPTION && bound > 0 && i < lengthof(units); i++)
		if (bound % units[i].us == 0)
			return psprintf(INT64_FORMAT " %s%s", bound / units[i].us, units[i].name, bound == units[i].us ? "" : "s");
	return psprintf(INT64_FORMAT, bound);
}

/* Raises unless a number is within the bounds of its option. */
static void
check_range(const PsStreamOption *option, int64 number)
{
	if (number >= option->min && (option->max == 0 || number <= option->max))
		return;
	if (option->max != 0)
		refuse_option(option, psprintf("be %s to %s", describe_bound(option, option->min), describe_bound(option, option->max)));
	if (option->min != 0)
		refuse_option(option, psprintf("be at least %s", describe_bound(option, option->min)));
	refuse_option(option, "not be negative");
}

/* Takes a text; an empty one takes away what is removable. */
static char *
take_text(const PsStreamOption *option, char *text)
{
	int			len = strlen(text);

	if (len == 0 && option->removable)
		return NULL;
	if (len < option->min && option->max == 0)
		refuse_option(option, "not be empty");
	if (len < option->min || (option->max != 0 && len > option->max))
		refuse_option(option, psprintf("have " INT64_FORMAT " to " INT64_FORMAT " bytes", option->min, option->max));
	if (option->words[0] != NULL)
		ps_check_word(option->name, text, option->words, PS_MAX_OPTION_WORDS);
	return text;
}

/* Takes a document; an empty object takes away what is removable. */
static Jsonb *
take_jsonb(const PsStreamOption *option, Jsonb *jsonb)
{
	return option->removable && JB_ROOT_IS_OBJECT(jsonb) && JB_ROOT_COUNT(jsonb) == 0 ? NULL : jsonb;
}

static int64
take_interval(const PsStreamOption *option, Interval *interval)
{
	int64		us = ps_interval_us(interval);

	check_range(option, us);
	return us / option->unit;
}

static double
take_ratio(const PsStreamOption *option, double ratio)
{
	if (!(ratio > 0 && ratio <= 1))
		refuse_option(option, "be more than 0 and at most 1");
	return ratio;
}

static int
take_int(const PsStreamOption *option, int number)
{
	check_range(option, number);
	return number;
}

/* Takes an array of partitions; an empty one stands for all. */
static void
take_partitions(const PsStreamOption *option, PsStream *stream, ArrayType *array)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(array, INT4OID, sizeof(int32), true, TYPALIGN_INT, &elements, &nulls, &n);
	stream->partitions = palloc(Max(n, 1) * sizeof(int32));
	stream->npartitions = n;
	for (int i = 0; i < n; i++)
	{
		if (nulls[i] || DatumGetInt32(elements[i]) < 0)
			refuse_option(option, "not be negative");
		stream->partitions[i] = DatumGetInt32(elements[i]);
	}
}

/* Takes an array of texts; an empty one is like null. */
static PsTextSet
take_texts(const PsStreamOption *option, ArrayType *array)
{
	const char **texts;
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	if (n > PS_MAX_OPTION_TEXTS)
		refuse_option(option, psprintf("have at most %d elements", PS_MAX_OPTION_TEXTS));
	texts = palloc(Max(n, 1) * sizeof(char *));
	for (int i = 0; i < n; i++)
	{
		int64		len = nulls[i] ? 0 : VARSIZE_ANY_EXHDR(DatumGetTextPP(elements[i]));

		if (nulls[i])
			refuse_option(option, "have no null");
		if (len < option->min || (option->max != 0 && len > option->max))
			refuse_option(option, psprintf("have elements of " INT64_FORMAT " to " INT64_FORMAT " bytes", option->min, option->max));
		texts[i] = TextDatumGetCString(elements[i]);
	}
	return ps_text_set_make(texts, n);
}

static void
take_option(const PsStreamOption *option, PsStream *stream, Datum value)
{
	void	   *field = (char *) stream + option->offset;

	switch (option->kind)
	{
		case PS_TEXT_OPTION:
			*(char **) field = take_text(option, TextDatumGetCString(value));
			break;
		case PS_NAME_OPTION:
			*(char **) field = take_text(option, pstrdup(NameStr(*DatumGetName(value))));
			break;
		case PS_INT_OPTION:
			*(int *) field = take_int(option, DatumGetInt32(value));
			break;
		case PS_RATIO_OPTION:
			*(double *) field = take_ratio(option, DatumGetFloat8(value));
			break;
		case PS_INTERVAL_OPTION:
			*(int64 *) field = take_interval(option, DatumGetIntervalP(value));
			break;
		case PS_JSONB_OPTION:
			*(Jsonb **) field = take_jsonb(option, DatumGetJsonbPCopy(value));
			break;
		case PS_TEXTS_OPTION:
			*(PsTextSet *) field = take_texts(option, DatumGetArrayTypeP(value));
			break;
		case PS_PARTITIONS_OPTION:
			take_partitions(option, stream, DatumGetArrayTypeP(value));
			break;
	}
}

/* Takes the options that are given. A new stream must have each that is not nullable; of an old one fixed options stay. */
static void
take_options(const Arguments *arguments, PsStream *stream, bool is_new)
{
	for (int i = 0; i < ps_nstream_options; i++)
	{
		const PsStreamOption *option = &ps_stream_options[i];
		NullableDatum *argument = find_argument(arguments, option->name);

		if (argument == NULL || (option->fixed && !is_new))
			continue;
		if (!argument->isnull)
			take_option(option, stream, argument->value);
		else if (is_new && !option->nullable && !option->removable)
			refuse_option(option, "not be null");
	}
}

/* What the argument "order" stands for. Each of the four may be given beside it. */
static const struct
{
	const char *name;
	int64		reorder_wait_us;
	int			reorder_buffer_size;
	int64		late_tolerance_us;	/* negative: no event is late */
	char	   *late_policy;
}			orders[] = {
	{"arrival", 0, 1000, -1, "dead_letter"},
	{"article", 5 * USECS_PER_SEC, 1000, USECS_PER_HOUR, "drop"}
};

/* Takes an order, before the options that it stands for. A new stream must have one. */
static void
take_order(const Arguments *arguments, PsStream *stream, bool is_new)
{
	NullableDatum *argument = find_argument(arguments, "order");
	const char *name = argument == NULL || argument->isnull ? NULL : TextDatumGetCString(argument->value);

	if (name == NULL && !is_new)
		return;
	for (int i = 0; i < lengthof(orders); i++)
		if (name != NULL && strcmp(name, orders[i].name) == 0)
		{
			stream->reorder_wait_us = orders[i].reorder_wait_us;
			stream->reorder_buffer_size = orders[i].reorder_buffer_size;
			stream->late_tolerance_us = orders[i].late_tolerance_us;
			stream->late_policy = orders[i].late_policy;
			return;
		}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("order must be arrival or article")));
}

/* Raises unless the names can be watched. */
static void
check_watch(const PsTextSet *watch)
{
	ps_check_argument(watch->n <= PS_MAX_WATCHED, "watch must have at most " CppAsString2(PS_MAX_WATCHED) " names");
	for (int i = 0; i < watch->n; i++)
	{
		const char *refused = ps_watch_refuses(watch->texts[i]);

		if (refused != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("watch cannot name \"%s\": it %s", watch->texts[i], refused),
					 errhint("Name columns of profiles as total_balance and segment, or attributes.")));
	}
}

/* Whether a call gives an option a value. */
static bool
is_given(const Arguments *arguments, const char *name)
{
	NullableDatum *argument = find_argument(arguments, name);

	return argument != NULL && !argument->isnull;
}

/*
 * Brings topic, topics and topic_pattern together: a stream has topic alone, or the two
 * others. before: topic before the call, NULL: none or a new stream.
 */
static void
settle_topics(const Arguments *arguments, PsStream *stream, char *before)
{
	bool		several;

	several = (is_given(arguments, "topics") && stream->topics.n > 0) ||
		(is_given(arguments, "topic_pattern") && stream->topic_pattern != NULL);
	if (is_given(arguments, "topic"))
	{
		ps_check_argument(!several, "topic excludes topics and topic_pattern");
		stream->topics.n = 0;
		stream->topic_pattern = NULL;
		return;
	}
	if (several && before != NULL && stream->topics.n == 0)
	{
		/* a pattern alone takes no topic away */
		stream->topics.texts = palloc(sizeof(char *));
		stream->topics.texts[0] = before;
		stream->topics.n = 1;
	}
	if (several)
		stream->topic = NULL;
}

/* Raises unless the stream reads a topic, and the pattern is one. */
static void
check_topics(const PsStream *stream)
{
	ps_check_argument(stream->topic != NULL || stream->topics.n > 0 || stream->topic_pattern != NULL, "a stream must have a topic, topics or a topic_pattern");
	if (stream->topic_pattern != NULL)
		(void) DirectFunctionCall2Coll(textregexeq, C_COLLATION_OID, PointerGetDatum(cstring_to_text("")), CStringGetTextDatum(stream->topic_pattern));
}

/* Raises unless options that depend on each other fit, and unless that role may use the targets. */
static void
check_options(const PsStream *stream, Oid role)
{
	PsFormatOptions formats = {stream->format, stream->field_map, stream->timestamp_unit};
	PsTopicFormat *own_formats;

	ps_check_argument(stream->server == NULL || stream->bootstrap_servers == NULL, "server and bootstrap_servers exclude each other");
	check_topics(stream);
	(void) ps_field_map_compile(stream->format, stream->field_map);
	(void) ps_time_unit(stream->timestamp_unit);
	check_watch(&stream->watch);
	(void) ps_topic_formats_compile(stream->topic_formats, &formats, &own_formats);
	ps_kafka_check_values(ps_connection_options(stream->server, stream->bootstrap_servers, stream->options, role));
	for (int kind = 0; kind < PS_SINK_KINDS; kind++)
		if (stream->sinks[kind] != NULL)
			ps_sink_check(stream, kind, role);
}

/* A time as text with its offset, because the worker may have another time zone. */
static char *
absolute_time(const char *time)
{
	TimestampTz at = ps_read_time(time, "start_from must be earliest, latest or a time");

	ps_check_argument(!TIMESTAMP_NOT_FINITE(at), "start_from must be finite");
	return pstrdup(timestamptz_to_str(at));
}

/* Makes a stream of create_stream's arguments. */
static PsStream *
read_stream(FunctionCallInfo fcinfo)
{
	Arguments	arguments = name_arguments(fcinfo);
	PsStream   *stream = palloc0(sizeof(PsStream));

	stream->owner = GetUserId();
	take_order(&arguments, stream, true);
	take_options(&arguments, stream, true);
	settle_topics(&arguments, stream, NULL);
	/* an empty list of topics is a mistake, and not the default */
	if (!is_given(&arguments, "topic") && !is_given(&arguments, "topics") && !is_given(&arguments, "topic_pattern"))
		stream->topic = "customer-events";
	if (stream->server == NULL && stream->bootstrap_servers == NULL)
		stream->bootstrap_servers = "localhost:9092";
	if (strcmp(stream->start_from, "earliest") != 0 && strcmp(stream->start_from, "latest") != 0)
		stream->start_from = absolute_time(stream->start_from);
	return stream;
}

/* Gives a stream the decoder that an argument names; an empty name takes it away. */
static void
set_decoder(FunctionCallInfo fcinfo, int stream_id)
{
	Arguments	arguments = name_arguments(fcinfo);
	NullableDatum *argument = find_argument(&arguments, "decoder");
	char	   *name;
	Oid			function;

	if (argument == NULL || argument->isnull)
		return;
	name = TextDatumGetCString(argument->value);
	if (name[0] == '\0')
	{
		ps_decoder_remove(stream_id);
		return;
	}
	function = ps_find_decoder(name);
	ps_decoder_set(stream_id, ps_function_name(function), ps_check_function(PS_DECODER, function));
}

PS_FUNCTION(ps_create_stream);
static Datum
ps_create_stream_checked(PG_FUNCTION_ARGS)
{
	PsStream   *stream = read_stream(fcinfo);

	PreventCommandIfReadOnly("create_stream()");
	ps_check_may_run(GetUserId());
	check_options(stream, GetUserId());
	SPI_connect();
	if (ps_stream_find(stream->name, 0) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("stream \"%s\" already exists", stream->name),
				 errhint("Change it with alter_stream(), or choose another name.")));
	ps_check_slots(stream, 0);
	ps_stream_add(stream);
	ps_state_log_action(stream->name, "stream", "created", NULL);
	set_decoder(fcinfo, stream->stream_id);
	ps_start_at_commit(stream, true);
	SPI_finish();
	if (!process_shared_preload_libraries_done || strstr(GetConfigOption("shared_preload_libraries", true, false), "profile_stream") == NULL)
		ereport(NOTICE,
				(errmsg("stream \"%s\" will not start by itself after a server restart", stream->name),
				 errhint("Add profile_stream to shared_preload_libraries, or call profile_stream.start_streams() after a restart.")));
	PG_RETURN_VOID();
}

/* Takes alter_stream's arguments over the stream as it is. */
static void
read_changes(FunctionCallInfo fcinfo, PsStream *stream)
{
	Arguments	arguments = name_arguments(fcinfo);
	NullableDatum *owner = find_argument(&arguments, "owner");
	char	   *server = stream->server;
	char	   *bootstrap_servers = stream->bootstrap_servers;
	char	   *topic = stream->topic;
	const char *format = stream->format;
	Jsonb	   *field_map = stream->field_map;

	stream->server = stream->bootstrap_servers = NULL;
	take_order(&arguments, stream, false);
	take_options(&arguments, stream, false);
	settle_topics(&arguments, stream, topic);
	/* whoever names one of the two replaces the other */
	if (stream->server == NULL && stream->bootstrap_servers == NULL)
	{
		stream->server = server;
		stream->bootstrap_servers = bootstrap_servers;
	}
	/* a map is of its format */
	if (strcmp(stream->format, format) != 0 && stream->field_map == field_map)
		stream->field_map = NULL;
	if (owner != NULL && !owner->isnull)
		stream->owner = get_role_oid(NameStr(*DatumGetName(owner->value)), false);
}

/* Raises unless the caller may give the stream to the role, as in ALTER ... OWNER TO, and the role may have streams. */
static void
check_new_owner(Oid owner)
{
	ps_check_set_role(owner);
	ps_check_may_run(owner);
}

/* Names of the arguments that were given, but for the stream's: their values may be secrets. */
static char *
given_names(FunctionCallInfo fcinfo)
{
	Arguments	arguments = name_arguments(fcinfo);
	StringInfoData given;

	initStringInfo(&given);
	for (int i = 1; i < fcinfo->nargs; i++)
		if (!fcinfo->args[i].isnull)
			appendStringInfo(&given, "%s%s", given.len == 0 ? "" : ", ", arguments.names[i]);
	return given.len > 0 ? given.data : NULL;
}

static Datum
alter_stream(PG_FUNCTION_ARGS)
{
	PsStream   *stream;
	Oid			owner;
	bool		given_away;

	ps_check_argument(!PG_ARGISNULL(0), "name must not be null");
	PreventCommandIfReadOnly("alter_stream()");
	SPI_connect();
	stream = ps_find_stream(PG_GETARG_TEXT_PP(0), true);
	owner = stream->owner;
	read_changes(fcinfo, stream);
	given_away = owner != stream->owner;
	if (given_away)
		check_new_owner(stream->owner);
	/* the owner's rights and user mapping count */
	check_options(stream, ps_stream_owner(stream));
	ps_lease_hold_back(stream->stream_id);	/* its relays would otherwise wait for our rows of the outbox */
	if (stream->enabled)
		ps_check_slots(stream, 0);
	ps_stream_alter(stream);
	ps_state_log_action(stream->name, "stream", "altered", given_names(fcinfo));
	set_decoder(fcinfo, stream->stream_id);
	if (given_away)
		ps_stream_give(stream->stream_id, stream->owner);
	ps_outbox_clear(stream->stream_id);
	if (stream->enabled)
		ps_start_at_commit(stream, given_away); /* workers of the old owner are about to end */
	SPI_finish();
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_alter_stream);
static Datum
ps_alter_stream_checked(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, alter_stream, "alter_stream()", PS_SESSION_WAIT_MS);
}
