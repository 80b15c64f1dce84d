/*
 * format_cloudevents.c
 *	  The format cloudevents: CloudEvents 1.0 by its Kafka protocol binding.
 *
 *	  structured mode  the value is a JSON document of all attributes and the data
 *	  binary mode      attributes are headers ce_NAME, the value is the data
 *
 *	  The header content-type tells the mode. When it is not a type of CloudEvents,
 *	  the mode is binary if there is any header ce_NAME, and else structured.
 */
#include "postgres.h"

#include "core/format_read.h"
#include "core/json.h"
#include "mb/pg_wchar.h"

#define CLOUDEVENTS "application/cloudevents"
#define ATTRIBUTE "ce_"
#define MAX_SHOWN_TYPE_BYTES 100

/* CloudEvents identifies an event by source and id together. Without a source the id is not joined, so that it equals no joined one. */
static const char *const source_and_id[] = {"$.source", "$.id", NULL};
static const char *const only_id[] = {"$.id", NULL};

static const char *const own[] = {"$.specversion", NULL};

static const PsDefaultSource sources[] = {
	{PS_EVENT_ID,.joined = source_and_id},
	{PS_EVENT_ID,.joined = only_id},
	{PS_CUSTOMER_ID, "$.subject"},
	{PS_CUSTOMER_ID, "key"},
	{PS_EVENT_TYPE, "$.type"},
	{PS_TIMESTAMP, "$.time"},
	{PS_TIMESTAMP, "kafka_timestamp"},
	{PS_PAYLOAD, "$.data"},
	{PS_PAYLOAD, "$.data_base64"},	/* a string, which validation refuses */
	{PS_SOURCE, "$.source"},
};

/* What follows application/cloudevents in the header content-type; NULL when the header has another type, or there is none. */
static const char *
cloudevents_type(const PsMessage *message)
{
	for (int i = message->nheaders - 1; i >= 0; i--)
	{
		const PsHeader *header = &message->headers[i];
		Size		len = strlen(CLOUDEVENTS);

		if (pg_strcasecmp(header->name, "content-type") == 0 && header->value != NULL)
			return header->value_len >= len && pg_strncasecmp(header->value, CLOUDEVENTS, len) == 0 ?
				pnstrdup(header->value + len, header->value_len - len) : NULL;
	}
	return NULL;
}

static bool
has_attributes(const PsMessage *message)
{
	for (int i = 0; i < message->nheaders; i++)
		if (strncmp(message->headers[i].name, ATTRIBUTE, strlen(ATTRIBUTE)) == 0)
			return true;
	return false;
}

/* In binary mode a null value is an event without data. */
static bool
is_cloudevents_tombstone(const PsMessage *message)
{
	return message->value == NULL && (!has_attributes(message) || cloudevents_type(message) != NULL);
}

/* Refuses batches, and all event formats but JSON. */
static PsReject *
check_type(const char *type)
{
	int			len;

	if (pg_strncasecmp(type, "-batch", 6) == 0)
		return ps_reject_make("malformed", "CloudEvents batches are not supported");
	if (strcspn(pg_strncasecmp(type, "+json", 5) == 0 ? type + 5 : type, "; \t") == 0)
		return NULL;
	len = pg_encoding_mbcliplen(PG_UTF8, type, strlen(type), MAX_SHOWN_TYPE_BYTES);
	len = pg_encoding_verifymbstr(PG_UTF8, type, len);
	return ps_reject_make("malformed", psprintf("Unsupported CloudEvents format %s%s", CLOUDEVENTS, pnstrdup(type, len)));
}

/* Whether the value, which is valid JSON but not an object, is null. */
static bool
is_json_null(const PsMessage *message)
{
	for (int i = 0; i < message->value_len; i++)
		if (strchr(" \t\r\n", message->value[i]) == NULL)
			return message->value[i] == 'n';
	return false;
}

/* Reads the value into the node data; returns why it cannot be read, or NULL. */
static const char *
read_data(PsFormatReader *reading, int node)
{
	const PsMessage *message = reading->message;
	PsField    *data = &reading->nodes[node];
	const char *reason = ps_format_reader_below(reading, node, message->value, message->value_len);

	if (reason != NULL && reason != ps_json_not_object)
		return reason;
	data->type = reason == NULL ? PS_JSON_OBJECT : is_json_null(message) ? PS_JSON_NULL : PS_JSON_ARRAY;
	data->text = message->value;
	data->len = message->value_len;
	return NULL;
}

/* Reads attributes from headers, and data from the value. */
static PsReject *
read_binary(PsFormatReader *reading, PsMembers *members)
{
	const PsFormatMap *format_map = reading->format_map;
	const PsMessage *message = reading->message;
	const char *reason = NULL;

	for (int i = 1; i < format_map->nnodes; i++)
	{
		const PsHeader *header;

		if (format_map->nodes[i].parent != 0)
			continue;
		if (strcmp(format_map->nodes[i].key, "data") == 0)
		{
			if (message->value != NULL)
				reason = read_data(reading, i);
			continue;
		}
		header = ps_find_header(message, ATTRIBUTE, format_map->nodes[i].key);
		if (header != NULL)
			ps_member_set_bytes(&reading->nodes[i], header->value, header->value_len);
	}
	return ps_format_reader_members(reading, members, reason);
}

static PsReject *
read_cloudevent(const PsFormatMap *format_map, const PsMessage *message, PsMembers *members)
{
	PsFormatReader reading = ps_format_reader_begin(format_map, message);
	const char *type = cloudevents_type(message);
	const PsField *version = &reading.nodes[format_map->own[0]];
	PsReject   *reject = type != NULL ? check_type(type) : NULL;

	if (reject == NULL)
		reject = type == NULL && has_attributes(message) ? read_binary(&reading, members) : ps_format_reader_document(&reading, members);
	if (reject != NULL)
		return reject;
	if (ps_member_is_missing(version))
		members->error = "Missing specversion";
	else if ((version->type != PS_JSON_STRING && version->type != PS_JSON_NUMBER) || strncmp(version->text, "1.", 2) != 0)
		members->error = ps_unsupported("specversion", version);
	return NULL;
}

const PsFormat ps_format_cloudevents = {
	.name = "cloudevents",
	.read = read_cloudevent,
	.is_tombstone = is_cloudevents_tombstone,
	.defaults = sources,
	.ndefaults = lengthof(sources),
	.own = own,
	.has_data = true
};
