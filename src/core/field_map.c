/*
 * field_map.c
 *	  Compiles the format and the field_map of a stream: when it is created or
 *	  altered, when its worker reads it, and for decode_message().
 */
#include "postgres.h"

#include "core/field_map.h"

#define SOURCES_HINT \
	"A source is a path of at most 8 keys ($.data.id, $.\"odd key\"), key, header:NAME, kafka_timestamp, kafka_position or constant:TEXT; {\"join\": [...]} joins up to 4 of them."
#define MAP_HINT \
	"Name the sources of eventId, customerId, eventType, payload, timestamp, source and schemaVersion: " \
	"{\"eventId\": \"$.id\", \"customerId\": [\"$.customer\", \"key\"], ...}."

static void
field_map_refuse(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", message),
			 errhint("%s", hint)));
}

static PsMember
field_map_find_member(const char *name)
{
	for (int m = 0; m < PS_MEMBERS; m++)
		if (strcmp(ps_member_name(m), name) == 0)
			return m;
	field_map_refuse(psprintf("field_map names \"%s\", which is not a member of an event", name), MAP_HINT);
	pg_unreachable();
}

/* Adds a source that joins others: {"join": ["$.source", "$.id"]}. */
static void
add_join(PsFormatMap *format_map, PsMember member, JsonbContainer * container)
{
	const char *parts[PS_MAX_JOINED];
	const char *wrong;
	JsonbValue	list;
	int			n;

	if (!JsonContainerIsObject(container) || JsonContainerSize(container) != 1 ||
		getKeyJsonValueFromContainer(container, "join", 4, &list) == NULL ||
		list.type != jbvBinary || !JsonContainerIsArray(list.val.binary.data))
		field_map_refuse(psprintf("field_map has a source of %s that is neither a string nor a join", ps_member_name(member)), SOURCES_HINT);
	n = JsonContainerSize(list.val.binary.data);
	for (int i = 0; i < Min(n, PS_MAX_JOINED); i++)
	{
		const JsonbValue *part = getIthJsonbValueFromContainer(list.val.binary.data, i);

		if (part->type != jbvString)
			field_map_refuse(psprintf("field_map has a source of %s that is not a string", ps_member_name(member)), SOURCES_HINT);
		parts[i] = pnstrdup(part->val.string.val, part->val.string.len);
	}
	wrong = ps_format_map_add_join(format_map, member, parts, n);
	if (wrong != NULL)
		field_map_refuse(psprintf("field_map: a source of %s %s", ps_member_name(member), wrong), SOURCES_HINT);
}

/* Adds one source. */
static void
field_map_add_source(PsFormatMap *format_map, PsMember member, const JsonbValue *value)
{
	const char *wrong;
	char	   *source;

	if (value->type == jbvBinary)
	{
		add_join(format_map, member, value->val.binary.data);
		return;
	}
	if (value->type != jbvString)
		field_map_refuse(psprintf("field_map has a source of %s that is not a string", ps_member_name(member)), SOURCES_HINT);
	source = pnstrdup(value->val.string.val, value->val.string.len);
	wrong = ps_format_map_add(format_map, member, source);
	if (wrong != NULL)
		field_map_refuse(psprintf("field_map: \"%s\" of %s %s", source, ps_member_name(member), wrong), SOURCES_HINT);
}

/* Adds a source, or an array of them. */
static void
add_sources(PsFormatMap *format_map, PsMember member, const JsonbValue *value)
{
	JsonbContainer *container;

	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
	{
		field_map_add_source(format_map, member, value);
		return;
	}
	container = value->val.binary.data;
	if (JsonContainerSize(container) == 0)
		field_map_refuse(psprintf("field_map has no source of %s", ps_member_name(member)), SOURCES_HINT);
	for (uint32 i = 0; i < JsonContainerSize(container); i++)
		field_map_add_source(format_map, member, getIthJsonbValueFromContainer(container, i));
}

/* Sets the option of the format, which the map has among its members. */
static void
field_map_set_option(PsFormatMap *format_map, const JsonbValue *value)
{
	const char *wrong = "must be a string";

	if (value->type == jbvString)
		wrong = ps_format_map_set(format_map, pnstrdup(value->val.string.val, value->val.string.len));
	if (wrong != NULL)
		field_map_refuse(psprintf("field_map: %s %s", format_map->format->option, wrong),
						 "doc/reference/formats.md says what it does.");
}

/* Adds the sources of each member that a map names. */
static void
add_map(PsFormatMap *format_map, Jsonb *map)
{
	const char *option = format_map->format->option;
	bool		is_option = false;
	JsonbIterator *iterator = JsonbIteratorInit(&map->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	PsMember	member = PS_EVENT_ID;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			char	   *name = pnstrdup(value.val.string.val, value.val.string.len);

			is_option = option != NULL && strcmp(name, option) == 0;
			if (!is_option)
				member = field_map_find_member(name);
		}
		else if (token == WJB_VALUE && is_option)
			field_map_set_option(format_map, &value);
		else if (token == WJB_VALUE)
			add_sources(format_map, member, &value);
	}
}

PsFormatMap *
ps_field_map_compile(const char *format, Jsonb *map)
{
	const PsFormat *found = ps_format_find(format);
	PsFormatMap *format_map;

	if (strcmp(format, "profile_event") == 0)
	{
		if (map != NULL)
			field_map_refuse("format profile_event has no field_map", "Give format => 'custom', 'cloudevents' or 'debezium' with it.");
		return NULL;
	}
	if (found == NULL)
		field_map_refuse(psprintf("format \"%s\" is not known", format), psprintf("The formats are %s.", ps_format_names()));
	if (map != NULL && !JB_ROOT_IS_OBJECT(map))
		field_map_refuse("field_map must be a JSON object", MAP_HINT);
	format_map = ps_format_map_make(found);
	if (map != NULL)
		add_map(format_map, map);
	if (format_map->nnodes > PS_MAX_NODES - PS_OWN_NODES)
		field_map_refuse(psprintf("field_map has paths of more than %d keys in all", PS_MAX_NODES - PS_OWN_NODES - 1), SOURCES_HINT);
	ps_format_map_add_defaults(format_map);
	for (int m = PS_EVENT_ID; m <= PS_TIMESTAMP; m++)
		if (format_map->nsources[m] == 0)
			field_map_refuse(psprintf("format %s needs a field_map with %s", format, ps_member_name(m)), MAP_HINT);
	return format_map;
}

PsTimeUnit
ps_time_unit(const char *name)
{
	for (int unit = 0; unit < PS_TIME_UNITS; unit++)
		if (strcmp(ps_time_units[unit], name) == 0)
			return unit;
	field_map_refuse(psprintf("timestamp_unit \"%s\" is not known", name), "It is milliseconds, seconds or microseconds.");
	pg_unreachable();
}
