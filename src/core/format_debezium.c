/*
 * format_debezium.c
 *	  The format debezium: a change of a row of another database, in the envelope of
 *	  Debezium's connectors, with or without the wrapper {"schema": …, "payload": …}.
 *
 *	  Paths begin at the envelope. Three members of it are made here, and hide what
 *	  a message may have under their names:
 *
 *	  $.row       the row after the change, or before it when it was deleted
 *	  $.change    table and what was done: customers.updated
 *	  $.position  what tells this change from all others: connector, table, operation,
 *	              position in the log of the database, and key of the row
 *
 *	  Rows of a snapshot, and rows that one record of the log inserts, have one
 *	  position in the log. The key tells these rows apart, so that without a key the
 *	  position in the topic takes the place of both.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "core/format_read.h"
#include "core/json.h"
#include "mb/pg_wchar.h"

/* A column that the log does not hold, because the change did not touch it. */
#define UNAVAILABLE "__debezium_unavailable_value"

/* The nodes of the format, in the order of the list below. */
enum
{
	ROW,
	CHANGE,
	POSITION,
	OP,
	WRAPPED,
	AFTER,
	BEFORE,
	SOURCE_TIME,
	CONNECTOR,
	DATABASE,
	SCHEMA,
	TABLE,
	COLLECTION,
	FIRST_OF_LOG				/* from here on: what makes a position in a log */
};

static const char *const own[] = {
	"$.row", "$.change", "$.position", "$.op", "$.payload", "$.after", "$.before", "$.source.ts_ms",
	"$.source.name", "$.source.db", "$.source.schema", "$.source.table", "$.source.collection",
	"$.source.lsn", "$.source.txId",	/* PostgreSQL */
	"$.source.file", "$.source.pos", "$.source.row",	/* MySQL, MariaDB */
	"$.source.commit_lsn", "$.source.change_lsn", "$.source.event_serial_no",	/* SQL Server, Db2 */
	"$.source.scn", "$.source.rs_id", "$.source.ssn",	/* Oracle */
	"$.source.ord",				/* MongoDB, beside the time */
	NULL
};

/* Any of these alone tells a position. */
static const char *const positions[] = {"lsn", "file", "change_lsn", "scn", "ord"};

static const PsDefaultSource sources[] = {
	{PS_EVENT_ID, "$.position"},
	{PS_EVENT_TYPE, "$.change"},
	{PS_TIMESTAMP, "$.source.ts_ms"},
	{PS_TIMESTAMP, "$.ts_ms"},
	{PS_TIMESTAMP, "kafka_timestamp"},
	{PS_PAYLOAD, "$.row"},
	{PS_SOURCE, "$.source.name"},
};

static const char *const deletes[] = {"event", "tombstone", NULL};

static PsField *
own_node(const PsFormatReader *reading, int path)
{
	return &reading->nodes[reading->format_map->own[path]];
}

static bool
has_text(const PsField *field)
{
	return (field->type == PS_JSON_STRING || field->type == PS_JSON_NUMBER) && field->len > 0;
}

static void
set_string(PsField *field, const char *text)
{
	field->type = PS_JSON_STRING;
	field->text = text;

	field->len = strlen(text);
}

/* Takes away what was read at a node and below it. */
static void
debezium_clear(PsFormatReader *reading, int top)
{
	const PsNode *nodes = reading->format_map->nodes;

	for (int i = top; i < reading->format_map->nnodes; i++)
	{
		int			at = i;

		while (at > top)
			at = nodes[at].parent;
		if (at != top)
			continue;
		reading->nodes[i].type = PS_JSON_NULL;
		if (reading->expanded == i)
			reading->expanded = -1;
	}
}

/* Reads the envelope, which may be wrapped. Returns why it cannot be read, or NULL. */
static const char *
read_envelope(PsFormatReader *reading)
{
	const PsMessage *message = reading->message;
	const char *reason = ps_format_reader_below(reading, 0, message->value, message->value_len);
	PsField		root = {NULL, PS_JSON_OBJECT, message->value, message->value_len};
	const PsField *wrapped = own_node(reading, WRAPPED);

	if (reason == NULL && own_node(reading, OP)->type == PS_JSON_NULL && wrapped->type == PS_JSON_OBJECT)
	{
		root.text = wrapped->text;
		root.len = wrapped->len;
		debezium_clear(reading, 0);
		reason = ps_format_reader_below(reading, 0, root.text, root.len);
	}
	reading->nodes[0] = root;
	for (int path = ROW; path <= POSITION; path++)
		debezium_clear(reading, reading->format_map->own[path]);
	return reason;
}

/* Sets the row of the change. MongoDB's is JSON in a string. Returns why it cannot be read, or NULL. */
static const char *
set_row(PsFormatReader *reading, const PsField *image)
{
	int			node = reading->format_map->own[ROW];
	PsField    *row = &reading->nodes[node];

	row->type = PS_JSON_OBJECT;
	row->text = image->text;
	row->len = image->len;
	return ps_format_reader_below(reading, node, row->text, row->len);
}

/* The name of the table or collection; NULL when the message does not tell it. */
static const char *
table_name(const PsFormatReader *reading)
{
	for (int path = TABLE; path <= COLLECTION; path++)
		if (has_text(own_node(reading, path)))
			return own_node(reading, path)->text;
	return NULL;
}

/* The position in the log of the database; NULL when the message has none. */
static char *
log_position(const PsFormatReader *reading)
{
	char	   *result = "";
	const PsField *last = NULL;
	bool		found = false;

	for (int path = FIRST_OF_LOG; own[path] != NULL; path++)
	{
		const PsField *field = own_node(reading, path);

		if (!has_text(field))
			continue;
		for (int i = 0; i < lengthof(positions); i++)
			found |= strcmp(field->name, positions[i]) == 0;
		last = field;
		result = psprintf("%s|%s=%s", result, field->name, field->text);
	}
	/* what MongoDB counts begins anew at each second */
	if (found && strcmp(last->name, "ord") == 0 && has_text(own_node(reading, SOURCE_TIME)))
		result = psprintf("%s|ts=%s", result, own_node(reading, SOURCE_TIME)->text);
	return found ? result : NULL;
}

/* The key of the row as text, without the wrapper; NULL when the message has no key that is text. */
static const char *
row_key(const PsMessage *message)
{
	PsField		payload = {"payload", PS_JSON_NULL};
	PsJsonReader reader = {&payload, 1, PS_JSON_NO_MEMBER};

	if (message->key == NULL || message->key_len == 0 || memchr(message->key, 0, message->key_len) != NULL ||
		pg_encoding_verifymbstr(PG_UTF8, message->key, message->key_len) != message->key_len)
		return NULL;
	if (ps_json_read(message->key, message->key_len, &reader) == NULL && payload.type != PS_JSON_NULL)
		return pnstrdup(payload.text, payload.len);
	return pnstrdup(message->key, message->key_len);
}

/* A short name for a long text. Two texts have one name by accident only; an id counts for its customer alone. */
static const char *
debezium_shorten(const char *text)
{
	Size		len = strlen(text);

	if (len <= PS_MAX_ID_BYTES)
		return text;

	return psprintf("hash=%016llx%016llx",
					(unsigned long long) hash_bytes_extended((const unsigned char *) text, (int) len, 1),
					(unsigned long long) hash_bytes_extended((const unsigned char *) text, (int) len, 2));
}

/* Sets $.change and $.position. */
static void
set_names(PsFormatReader *reading, const char *op, const char *done)
{
	const char *table = table_name(reading);
	const char *position = log_position(reading);
	const char *key = row_key(reading->message);
	const char *where = "";

	if (table == NULL)
		return;
	set_string(own_node(reading, CHANGE), psprintf("%s.%s", table, done));
	for (int path = CONNECTOR; path <= SCHEMA; path++)
		if (has_text(own_node(reading, path)))
			where = psprintf("%s%s.", where, own_node(reading, path)->text);
	if (position != NULL && key != NULL)
		where = psprintf("%s%s|%s%s|%s", where, table, op, position, key);
	else
		where = psprintf("%s%s|%s|kafka=%s", where, table, op, ps_format_position(reading->message));
	set_string(own_node(reading, POSITION), debezium_shorten(where));
}

/* Appends a text to JSON, as a string; returns where that ends. */
static char *
write_string(char *to, const char *text)
{
	*to++ = '"';
	for (; *text !='\0'; text ++)
	{
		if ((unsigned char) *text <' ')
		{
			to += sprintf(to, "\\u%04x", (unsigned char) *text);
			continue;
		}
		if (*text == '"' || *text == '\\')
			*to++ = '\\';
		*to++ = *text;
	}
	*to++ = '"';
	return to;
}

/* Writes the payload anew, of the fields that are left. */
static void
write_payload(PsMembers *members)
{
	PsField    *payload = &members->member[PS_PAYLOAD];
	Size		size = 3;
	char	   *text;
	char	   *to;

	for (int i = 0; i < members->nfields; i++)
		size += 6 * (strlen(members->fields[i].name) + (Size) members->fields[i].len) + 10;
	text = to = MemoryContextAllocHuge(CurrentMemoryContext, size);

	*to++ = '{';
	for (int i = 0; i < members->nfields; i++)
	{
		const PsField *field = &members->fields[i];

		if (i > 0)
			*to++ = ',';
		to = write_string(to, field->name);
		*to++ = ':';
		if (field->type == PS_JSON_STRING)
			to = write_string(to, field->text);
		else if (field->type == PS_JSON_NULL)
			to = (char *) memcpy(to, "null", 4) + 4;
		else
			to = (char *) memcpy(to, field->text, field->len) + field->len;
	}
	*to++ = '}';
	*to = '\0';
	payload->text = text;

	payload->len = (int) (to - text);
}

static bool
is_unavailable(const PsField *field)
{
	return field->type == PS_JSON_STRING && strcmp(field->text, UNAVAILABLE) == 0;
}

/* Takes away the columns whose values the log does not hold: they did not change. */
static void
drop_unavailable(PsMembers *members)
{
	int			left = 0;

	for (int m = 0; m < PS_MEMBERS; m++)
		if (is_unavailable(&members->member[m]))
			members->member[m].type = PS_JSON_NULL;
	for (int i = 0; i < members->nfields; i++)
		if (!is_unavailable(&members->fields[i]))
			members->fields[left++] = members->fields[i];
	if (left == members->nfields)
		return;
	members->nfields = left;
	write_payload(members);
}

/* Takes the envelope apart. Returns why a part of it cannot be read, or NULL. Sets an error of the members likewise. */
static const char *
read_change(PsFormatReader *reading, PsMembers *members)
{
	static const char *const ops[] = {"c", "u", "d", "r"};
	static const char *const done[] = {"created", "updated", "deleted", "read"};
	const PsField *op = own_node(reading, OP);
	int			which = 0;
	const PsField *image;

	if (op->type == PS_JSON_NULL)
	{
		members->error = "Missing op";
		return NULL;
	}
	while (which < lengthof(ops) && (op->type != PS_JSON_STRING || strcmp(op->text, ops[which]) != 0))
		which++;
	if (which == lengthof(ops))
	{
		members->error = ps_unsupported("op", op);
		return NULL;
	}
	members->is_ignored = which == 2 && reading->format_map->word == 1;
	set_names(reading, ops[which], done[which]);
	image = own_node(reading, which == 2 ? BEFORE : AFTER);
	if (image->type == PS_JSON_OBJECT || image->type == PS_JSON_STRING)
		return set_row(reading, image);
	members->error = which == 2 ? "Missing before" : "Missing after";
	return NULL;
}

static PsReject *
read_debezium(const PsFormatMap *format_map, const PsMessage *message, PsMembers *members)
{
	PsFormatReader reading = ps_format_reader_begin(format_map, message);
	const char *reason = read_envelope(&reading);
	const PsField *time = &reading.nodes[format_map->own[SOURCE_TIME]];
	PsReject   *reject;

	if (reason == NULL)
		reason = read_change(&reading, members);
	reject = ps_format_reader_members(&reading, members, reason);
	if (reject != NULL)
		return reject;
	if (time->type != PS_JSON_NULL && members->member[PS_TIMESTAMP].text == time->text)
		members->is_milliseconds = true;
	drop_unavailable(members);
	return NULL;
}

static bool
is_debezium_tombstone(const PsMessage *message)
{
	return message->value == NULL;
}

const PsFormat ps_format_debezium = {
	.name = "debezium",
	.read = read_debezium,
	.is_tombstone = is_debezium_tombstone,
	.defaults = sources,
	.ndefaults = lengthof(sources),
	.own = own,
	.option = "deletes",
	.words = deletes
};
