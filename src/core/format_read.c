/*
 * format_read.c
 *	  Reads a message by a PsFormatMap. Each object that a path goes through is parsed
 *	  once; then each member takes the value of its first source that has one.
 */
#include "postgres.h"

#include "core/format_read.h"
#include "core/json.h"
#include "core/unix_time.h"
#include "mb/pg_wchar.h"

PsFormatReader
ps_format_reader_begin(const PsFormatMap *format_map, const PsMessage *message)
{
	PsFormatReader reading = {format_map, message,.expanded = -1};

	reading.nodes = palloc(format_map->nnodes * sizeof(PsField));
	for (int i = 0; i < format_map->nnodes; i++)
	{
		PsField		nothing = {format_map->nodes[i].key, PS_JSON_NULL};

		reading.nodes[i] = nothing;
	}
	return reading;
}

/* Parses the object at a node for its members, which become fields. Returns why it cannot be read, or NULL. */
static const char *
format_read_expand(PsFormatReader *reading, int node, const char *text, int len)
{
	PsJsonReader reader = {NULL, 0, PS_JSON_ROOT};
	const char *reason = ps_json_read(text, len, &reader);

	reading->expanded = node;
	reading->fields = reader.fields;
	reading->nfields = reader.nfields;
	return reason;
}

const char *
ps_format_reader_below(PsFormatReader *reading, int node, const char *text, int len)
{
	const PsFormatMap *format_map = reading->format_map;
	int			payload = format_map->nsources[PS_PAYLOAD] > 0 ? format_map->sources[PS_PAYLOAD][0].node : -1;
	int			n = format_map->nodes[node].nchildren;
	PsField    *members = palloc(Max(n, 1) * sizeof(PsField));
	int		   *children = palloc(Max(n, 1) * sizeof(int));
	PsJsonReader reader = {members, 0, PS_JSON_NO_MEMBER};
	const char *reason;

	if (n == 0)
		return format_read_expand(reading, node, text, len);
	for (int i = node + 1; i < format_map->nnodes; i++)
	{
		if (format_map->nodes[i].parent != node)
			continue;
		if (i == payload)
			reader.expanded = reader.nmembers;
		members[reader.nmembers] = reading->nodes[i];
		children[reader.nmembers++] = i;
	}
	reason = ps_json_read(text, len, &reader);
	for (int i = 0; i < n; i++)
	{
		PsField    *child = &reading->nodes[children[i]];

		*child = members[i];
		if (child->type != PS_JSON_OBJECT || reason != NULL)
			continue;
		if (i == reader.expanded)
		{
			reading->expanded = payload;
			reading->fields = reader.fields;
			reading->nfields = reader.nfields;
		}
		if (format_map->nodes[children[i]].nchildren > 0)
			reason = ps_format_reader_below(reading, children[i], child->text, child->len);
	}
	return reason;
}

const PsHeader *
ps_find_header(const PsMessage *message, const char *prefix, const char *name)
{
	Size		len = strlen(prefix);

	for (int i = message->nheaders - 1; i >= 0; i--)
		if (strncmp(message->headers[i].name, prefix, len) == 0 && strcmp(message->headers[i].name + len, name) == 0)
			return &message->headers[i];
	return NULL;
}

void
ps_member_set_bytes(PsField *field, const char *bytes, int len)
{
	if (bytes == NULL)
		return;
	if (pg_encoding_verifymbstr(PG_UTF8, bytes, len) == len && memchr(bytes, 0, len) == NULL)
	{
		field->type = PS_JSON_STRING;
		field->text = pnstrdup(bytes, len);
		field->len = len;
	}
	else
	{
		field->type = PS_JSON_ARRAY;
		field->text = "[]";
		field->len = 2;
	}
}

const char *
ps_format_position(const PsMessage *message)
{
	const char *position = psprintf("%d:" INT64_FORMAT, Max(message->partition, 0), Max(message->offset, 0));

	if (message->epoch > 0)
		position = psprintf("%s:%d", position, message->epoch);
	/* a stream of several topics has the same position in each of them */
	return message->topic_no > 0 ? psprintf("%d/%s", message->topic_no, position) : position;
}

static PsField format_read_read_source(const PsFormatReader *reading, const PsSource *source);

/* Joins the values of the parts, escaped. Null when a part is missing; a part that is not text is returned as it is, to be refused. */
static PsField
join_parts(const PsFormatReader *reading, const PsSource *source)
{
	PsField		field = {NULL, PS_JSON_NULL};
	PsField		parts[PS_MAX_JOINED];
	Size		size = 1;
	char	   *text;

	for (int i = 0; i < source->nparts; i++)
	{
		parts[i] = format_read_read_source(reading, &source->parts[i]);
		if (ps_member_is_missing(&parts[i]))
			return field;
		if (parts[i].type != PS_JSON_STRING && parts[i].type != PS_JSON_NUMBER)
			return parts[i];
		size += 2 * (Size) parts[i].len + 1;
	}
	field.type = PS_JSON_STRING;
	field.text = text = MemoryContextAllocHuge(CurrentMemoryContext, size);

	for (int i = 0; i < source->nparts; i++)
	{
		if (i > 0)
			*text ++= '|';
		for (const char *c = parts[i].text; *c != '\0'; c++)
		{
			if (*c == '|' || *c == '\\')
				*text ++= '\\';
			*text ++= *c;
		}
	}
	*text = '\0';
	field.len = (int) (text -field.text);
	return field;
}

/* The value of a source; null when it has none. */
static PsField
format_read_read_source(const PsFormatReader *reading, const PsSource *source)
{
	const PsMessage *message = reading->message;
	const PsHeader *header;
	PsField		field = {NULL, PS_JSON_NULL};

	switch (source->kind)
	{
		case PS_SOURCE_PATH:
			return reading->nodes[source->node];
		case PS_SOURCE_KEY:
			ps_member_set_bytes(&field, message->key, message->key_len);
			break;
		case PS_SOURCE_HEADER:
			header = ps_find_header(message, "", source->text);
			if (header != NULL)
				ps_member_set_bytes(&field, header->value, header->value_len);
			break;
		case PS_SOURCE_KAFKA_TIMESTAMP:
			if (message->kafka_timestamp == DT_NOBEGIN)
				break;
			field.type = PS_JSON_NUMBER;
			field.text = psprintf(INT64_FORMAT, ps_unix_us_of(message->kafka_timestamp) / 1000);
			field.len = strlen(field.text);
			break;
		case PS_SOURCE_KAFKA_POSITION:
			field.type = PS_JSON_STRING;
			field.text = ps_format_position(message);
			field.len = strlen(field.text);
			break;
		case PS_SOURCE_CONSTANT:
			field.type = PS_JSON_STRING;
			field.text = source->text;
			field.len = strlen(source->text);
			break;
		case PS_SOURCE_JOIN:
			return join_parts(reading, source);
	}
	return field;
}

/* Sets a member from the first source whose value is not missing, else from the first that is not null. Returns that source. */
static const PsSource *
set_member(const PsFormatReader *reading, PsMember member, PsField *field)
{
	const PsSource *found = NULL;

	for (int i = 0; i < reading->format_map->nsources[member]; i++)
	{
		const PsSource *source = &reading->format_map->sources[member][i];
		PsField		candidate = format_read_read_source(reading, source);
		bool		missing = ps_member_is_missing(&candidate);

		if (candidate.type == PS_JSON_NULL || (missing && found != NULL))
			continue;
		found = source;
		candidate.name = field->name;
		*field = candidate;
		if (!missing)
			break;
	}
	return found;
}

PsReject *
ps_format_reader_members(PsFormatReader *reading, PsMembers *members, const char *reason)
{
	const PsMessage *message = reading->message;
	const PsSource *payload = NULL;
	const PsField *field = &members->member[PS_PAYLOAD];

	for (int m = 0; m < PS_MEMBERS; m++)
	{
		const PsSource *source = set_member(reading, m, &members->member[m]);

		if (m == PS_PAYLOAD)
			payload = source;
		if (m == PS_TIMESTAMP)
			members->is_milliseconds = source != NULL && source->kind == PS_SOURCE_KAFKA_TIMESTAMP;
	}
	if (reason == NULL && field->type == PS_JSON_OBJECT)
	{
		if (reading->expanded != payload->node)
			reason = format_read_expand(reading, payload->node, field->text, field->len);
		members->fields = reading->fields;
		members->nfields = reading->nfields;
	}
	return reason ? ps_reject_value(message->value, message->value_len, reason) : NULL;
}

PsReject *
ps_format_reader_document(PsFormatReader *reading, PsMembers *members)
{
	const PsMessage *message = reading->message;
	const char *reason = NULL;
	bool		is_asked = reading->format_map->nnodes > 1 || reading->format_map->nsources[PS_PAYLOAD] > 0;

	if (is_asked)
	{
		reason = ps_format_reader_below(reading, 0, message->value, message->value_len);
		reading->nodes[0].type = PS_JSON_OBJECT;
		reading->nodes[0].text = message->value;
		reading->nodes[0].len = message->value_len;
	}
	return ps_format_reader_members(reading, members, reason);
}
