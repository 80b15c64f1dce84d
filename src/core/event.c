/*
 * event.c
 *	  A customer event: decoding and validation of one message. This file reads the
 *	  format profile_event; the other formats have a read function of their own.
 *
 *	  Bytes that are not a JSON object are "malformed" and give one error. An object
 *	  that is not an event is "invalid" and gives every error that it has.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "core/event_rules.h"
#include "core/format.h"
#include "core/json.h"
#include "core/text.h"
#include "core/timestamp.h"
#include "mb/pg_wchar.h"

#define MAX_ERRORS 16
#define MAX_REASON_BYTES 480
#define MAX_SHOWN_VALUE_BYTES 64

static const PsMembers no_members = {
	.member = {
		[PS_EVENT_ID] = {"eventId", PS_JSON_NULL},
		[PS_CUSTOMER_ID] = {"customerId", PS_JSON_NULL},
		[PS_EVENT_TYPE] = {"eventType", PS_JSON_NULL},
		[PS_TIMESTAMP] = {"timestamp", PS_JSON_NULL},
		[PS_PAYLOAD] = {"payload", PS_JSON_NULL},
		[PS_SOURCE] = {"source", PS_JSON_NULL},
		[PS_SCHEMA_VERSION] = {"schemaVersion", PS_JSON_NULL},
	}
};

const char *
ps_member_name(PsMember member)
{
	return no_members.member[member].name;
}

static void
add_error(PsReject **reject, const char *error)
{
	if (*reject == NULL)
		*reject = ps_reject_make("invalid", error);
	else
	{
		Assert((*reject)->nerrors < MAX_ERRORS);
		(*reject)->errors[(*reject)->nerrors++] = error;
	}
}

PsReject *
ps_reject_make(const char *kind, const char *error)
{
	PsReject   *reject = palloc0(sizeof(PsReject));

	reject->kind = kind;
	reject->errors = palloc(MAX_ERRORS * sizeof(char *));
	reject->errors[0] = error;
	reject->nerrors = 1;
	return reject;
}

const PsField *
ps_event_field(const PsEvent *event, const char *name)
{
	for (int i = 0; i < event->nfields; i++)
	{
		if (strcmp(event->fields[i].name, name) == 0)
			return &event->fields[i];
	}
	return NULL;
}

/* The reason is cut: the parser quotes the value in it, however long that is. */
PsReject *
ps_reject_value(const char *value, int len, const char *reason)
{
	if (len > 0 && value[0] == '\0')
		return ps_reject_make("malformed", "Schema registry framing is not supported by this format");
	return ps_reject_make("malformed", psprintf("Malformed JSON: %s", ps_text_of_bytes(reason, strlen(reason), MAX_REASON_BYTES)));
}

bool
ps_member_is_missing(const PsField *field)
{
	switch (field->type)
	{
		case PS_JSON_NULL:
			return true;
		case PS_JSON_STRING:
			return field->len == 0;
		case PS_JSON_BOOLEAN:
			return field->text[0] == 'f';
		case PS_JSON_NUMBER:
			return ps_json_number(field->text).ndigits == 0;
		default:
			return false;
	}
}

static bool
is_scalar_text(const PsField *field)
{
	return field->type == PS_JSON_STRING || field->type == PS_JSON_NUMBER;
}

#define VERSION_DIGITS 5

/* Reads a version, a whole number from 1 on, as a number or a string. Null means 1; the result for anything else is 0. */
static int
read_version(const PsField *field)
{
	int64		version;

	if (field->type == PS_JSON_NULL)
		return 1;
	if (field->type == PS_JSON_STRING &&
		(field->len > VERSION_DIGITS || strspn(field->text, "0123456789") != field->len || field->text[0] == '0'))
		return 0;
	if ((field->type != PS_JSON_STRING && field->type != PS_JSON_NUMBER) ||
		!ps_json_whole_number(field->text, VERSION_DIGITS, &version))
		return 0;
	return version <= PS_MAX_SCHEMA_VERSION ? version : 0;
}

/*
 * The schemaVersion of an event; 0 when it is no version. It is 0 as well when it is not
 * the current one of its type and has no upcasters to that, unless such are accepted.
 */
static int
supported_version(const PsField *members, const PsDecodeSettings *settings, bool *outdated)
{
	int			version = read_version(&members[PS_SCHEMA_VERSION]);
	const PsEventRules *of_type = NULL;

	if (settings->rules != NULL && is_scalar_text(&members[PS_EVENT_TYPE]))
		of_type = ps_rules_find(settings->rules, members[PS_EVENT_TYPE].text);
	*outdated = of_type != NULL && version != ps_rules_current_version(of_type) && ps_rules_find_upcaster(of_type, version) >= 0;
	return *outdated || version == ps_rules_current_version(of_type) || settings->accept_unknown_schema ? version : 0;
}

const char *
ps_unsupported(const char *what, const PsField *field)
{
	const char *text = field->text;
	int			len = field->len;

	if (field->type == PS_JSON_OBJECT)
		return psprintf("Unsupported %s object", what);
	if (field->type == PS_JSON_ARRAY)
		return psprintf("Unsupported %s array", what);
	len = pg_encoding_mbcliplen(PG_UTF8, text, len, MAX_SHOWN_VALUE_BYTES);
	return psprintf("Unsupported %s %s", what, pnstrdup(text, len));
}

/* Reads a timestamp, where digits in a string count as a number. Returns what is wrong with it, or NULL. */
static const char *
read_timestamp(const PsField *field, PsTimeUnit unit, TimestampTz *timestamp)
{
	bool		is_text_count = field->type == PS_JSON_STRING && ps_timestamp_is_count(field->text, field->len);
	bool		is_count = field->type == PS_JSON_NUMBER || is_text_count;

	if (is_count ? !ps_timestamp_from_epoch(field->text, unit, timestamp) :
		field->type != PS_JSON_STRING || !ps_timestamp_from_iso(field->text, field->len, timestamp))
		return "Invalid timestamp";
	if (is_count && *timestamp < PS_FIRST_COUNTED_TIME)
		return psprintf("Invalid timestamp: as %s it is before 1980 (see timestamp_unit)", ps_time_units[unit]);
	return NULL;
}

/* Collects every error of an event, in an order that doc/ promises; that of its format comes first. NULL: it has none. */
static PsReject *
event_validate(const PsMembers *found, const PsDecodeSettings *settings, TimestampTz *timestamp, PsEvent *event)
{
	const PsField *members = found->member;
	static const char *const missing[] = {"Missing eventId", "Missing customerId",
	"Missing eventType", "Missing timestamp"};
	static const char *const invalid[] = {"Invalid eventId", "Invalid customerId", "Invalid eventType"};
	static const struct
	{
		PsMember	member;
		const char *error;
	}			too_long[] = {
		{PS_CUSTOMER_ID, "customerId too long"},
		{PS_EVENT_ID, "eventId too long"},
		{PS_EVENT_TYPE, "eventType too long"}
	};
	PsReject   *reject = NULL;
	bool		has_timestamp = !ps_member_is_missing(&members[PS_TIMESTAMP]);
	const char *wrong;

	if (found->error != NULL)
		add_error(&reject, found->error);
	for (int i = PS_EVENT_ID; i <= PS_TIMESTAMP; i++)
	{
		if (ps_member_is_missing(&members[i]))
			add_error(&reject, missing[i]);
	}
	for (int i = PS_EVENT_ID; i <= PS_EVENT_TYPE; i++)
	{
		if (!ps_member_is_missing(&members[i]) && !is_scalar_text(&members[i]))
			add_error(&reject, invalid[i]);
	}
	if (has_timestamp && (wrong = read_timestamp(&members[PS_TIMESTAMP], found->is_milliseconds ? PS_MILLISECONDS : settings->time_unit,
												 timestamp)) != NULL)
	{
		add_error(&reject, wrong);
		has_timestamp = false;
	}
	if (members[PS_PAYLOAD].type != PS_JSON_NULL && members[PS_PAYLOAD].type != PS_JSON_OBJECT)
		add_error(&reject, "Invalid payload");
	/* now + max_clock_skew_us could overflow, because now may be infinite */
	if (has_timestamp && *timestamp - settings->max_clock_skew_us > settings->now)
		add_error(&reject, "Timestamp too far in the future");
	event->schema_version = supported_version(members, settings, &event->outdated);
	if (event->schema_version == 0)
		add_error(&reject, ps_unsupported("schemaVersion", &members[PS_SCHEMA_VERSION]));
	for (int i = 0; i < lengthof(too_long); i++)
	{
		const PsField *field = &members[too_long[i].member];

		if (is_scalar_text(field) && field->len > PS_MAX_ID_BYTES)
			add_error(&reject, too_long[i].error);
	}
	return reject;
}

/* Whether the settings do not take events of a type. A message without a type is left to validation, which rejects it. */
static bool
is_other_type(const PsField *type, const PsTextSet *taken)
{
	return taken != NULL && is_scalar_text(type) && !ps_member_is_missing(type) && !ps_text_set_has(taken, type->text);
}

/* Sets the customer of an event whose customerId can be one. */
static void
set_customer(const PsField *field, PsEvent *event)
{
	bool		usable = is_scalar_text(field) && !ps_member_is_missing(field) && field->len <= PS_MAX_ID_BYTES;

	event->customer_id = usable ? field->text : NULL;
	event->customer_id_len = usable ? field->len : 0;
}

/* Refuses a message that is too large. The consumer may have cut it already, to keep memory bounded. */
static PsReject *
event_check_size(const PsMessage *message, int max_bytes)
{
	int64		bytes = message->value_len + message->value_cut;

	if (message->value_cut > 0)
		return ps_reject_make("malformed", psprintf("Event too large: " INT64_FORMAT " bytes (the limit is %d), of which the first %d are kept",
													bytes, max_bytes, message->value_len));
	if (bytes > max_bytes)
		return ps_reject_make("malformed", psprintf("Event too large: " INT64_FORMAT " bytes (the limit is %d)", bytes, max_bytes));
	if (message->key_cut > 0)
		return ps_reject_make("malformed", psprintf("Key too large: " INT64_FORMAT " bytes, of which the first %d are kept",
													message->key_len + message->key_cut, message->key_len));
	if (message->decoded_len > max_bytes)
		return ps_reject_make("malformed", psprintf("Event too large: %d bytes after decoding (the limit is %d)", message->decoded_len, max_bytes));
	if (message->headers_cut < 0)
		return ps_reject_make("malformed", "Headers that cannot be read");
	if (message->headers_cut > 0)
		return ps_reject_make("malformed", psprintf("Too many or too large headers: " INT64_FORMAT ", of which the first %d are kept",
													message->nheaders + message->headers_cut, message->nheaders));
	return NULL;
}

/* Whether the value begins with a byte order mark, as some writers of JSON add one. */
static bool
has_bom(const PsMessage *message)
{
	return message->value_len >= 3 && memcmp(message->value, "\xEF\xBB\xBF", 3) == 0;
}

/* The reject of a message that its decoder refused. */
static PsReject *
event_refuse(const PsMessage *message)
{
	PsReject   *reject = ps_reject_make("malformed", message->refused);

	if (message->refused_sqlstate[0] != '\0')
		reject->sqlstate = pstrdup(message->refused_sqlstate);
	return reject;
}

PsReject *
ps_members_read(const PsMessage *message, const PsDecodeSettings *settings, PsMembers *members)
{
	PsJsonReader reader = {members->member, PS_MEMBERS, PS_PAYLOAD};
	PsReject   *reject;
	PsMessage	rest;
	const char *reason;

	memcpy(members, &no_members, sizeof(no_members));
	reject = event_check_size(message, settings->max_event_bytes);
	if (reject != NULL)
		return reject;
	if (message->refused != NULL)
		return event_refuse(message);
	if (message->decoded != NULL)
	{
		rest = *message;
		rest.value = message->decoded;
		rest.value_len = message->decoded_len;
		message = &rest;
	}
	else if (has_bom(message))
	{
		rest = *message;
		rest.value += 3;
		rest.value_len -= 3;
		message = &rest;
	}
	if (settings->format_map != NULL)
		return settings->format_map->format->read(settings->format_map, message, members);
	reason = ps_json_read(message->value, message->value_len, &reader);
	if (reason != NULL)
		return ps_reject_value(message->value, message->value_len, reason);
	members->fields = reader.fields;
	members->nfields = reader.nfields;
	return NULL;
}

bool
ps_event_is_tombstone(const PsMessage *message, const PsFormatMap *format_map)
{
	if (message->is_ignored)
		return true;
	return format_map != NULL ? format_map->format->is_tombstone(message) : message->value == NULL;
}

PsReject *
ps_event_decode(const PsMessage *message, const PsDecodeSettings *settings, PsEvent *event)
{
	PsMembers	found;
	const PsField *members = found.member;
	TimestampTz timestamp = 0;
	PsReject   *reject = ps_members_read(message, settings, &found);

	set_customer(&members[PS_CUSTOMER_ID], event);
	event->is_other_type = reject == NULL && !found.is_ignored && is_other_type(&members[PS_EVENT_TYPE], settings->event_types);
	event->is_ignored = reject == NULL && (found.is_ignored || event->is_other_type);
	if (event->is_ignored)
		return NULL;
	if (reject == NULL)
		reject = event_validate(&found, settings, &timestamp, event);
	if (reject != NULL)
		return reject;

	event->event_id = members[PS_EVENT_ID].text;
	event->event_id_len = members[PS_EVENT_ID].len;
	/* hashed here because the bytes are still in the processor's cache */
	event->customer_key = (int64) hash_bytes_extended((const unsigned char *) event->customer_id, event->customer_id_len, 0);
	event->event_type = members[PS_EVENT_TYPE].text;
	event->event_type_len = members[PS_EVENT_TYPE].len;
	event->timestamp = timestamp;
	event->source = members[PS_SOURCE].type == PS_JSON_STRING ? members[PS_SOURCE].text : NULL;
	event->fields = found.fields;
	event->nfields = found.nfields;
	event->payload = members[PS_PAYLOAD].type == PS_JSON_OBJECT ? members[PS_PAYLOAD].text : NULL;
	event->payload_len = event->payload ? members[PS_PAYLOAD].len : 0;
	return NULL;
}

/* Copies what an event points to, or only measures it. */
typedef struct EventCopier
{
	const PsMessage *from;
	const PsMessage *to;		/* NULL: only measure */
	char	   *place;
	Size		size;
} EventCopier;

/* Copies a null-terminated text. */
static const char *
event_copy_text(EventCopier *copier, const char *text, Size len)
{
	char	   *copy;

	if (text == NULL)
		return NULL;
	copier->size += len + 1;
	if (copier->to == NULL)
		return text;

	copy = copier->place + copier->size - len - 1;
	memcpy(copy, text, len);
	copy[len] = '\0';
	return copy;
}

/* Copies raw JSON: mostly it is a part of the message, so the copy of the message has it. */
static const char *
event_copy_json(EventCopier *copier, const char *json, int len)
{
	const PsMessage *from = copier->from;

	if (json == NULL || from->value == NULL || json < from->value || json + len > from->value + from->value_len)
		return event_copy_text(copier, json, len);
	return copier->to != NULL ? copier->to->value + (json - from->value) : json;
}

static void
event_copy_fields(EventCopier *copier, PsEvent *copy, const PsEvent *event)
{
	PsField    *fields = copier->to != NULL ? (PsField *) (copier->place + copier->size) : NULL;

	copier->size += event->nfields * sizeof(PsField);
	for (int i = 0; i < event->nfields; i++)
	{
		PsField		field = event->fields[i];
		bool		raw = field.type == PS_JSON_OBJECT || field.type == PS_JSON_ARRAY;

		field.name = event_copy_text(copier, field.name, strlen(field.name));
		field.text = raw ? event_copy_json(copier, field.text, field.len) : event_copy_text(copier, field.text, field.len);
		if (copier->to != NULL)
			fields[i] = field;
	}
	copy->fields = fields;
}

/* Fills copy; returns the size of all. */
static Size
event_copy_all(EventCopier *copier, PsEvent *copy, const PsEvent *event)
{
	*copy = *event;
	copier->size = MAXALIGN(sizeof(PsEvent));
	event_copy_fields(copier, copy, event);
	copy->event_id = event_copy_text(copier, event->event_id, event->event_id_len);
	copy->customer_id = event_copy_text(copier, event->customer_id, event->customer_id_len);
	copy->event_type = event_copy_text(copier, event->event_type, event->event_type_len);
	if (event->source != NULL)
		copy->source = event_copy_text(copier, event->source, strlen(event->source));
	copy->payload = event_copy_json(copier, event->payload, event->payload_len);
	return copier->size;
}

Size
ps_event_space(const PsEvent *event, const PsMessage *message)
{
	EventCopier copier = {message};
	PsEvent		unused;

	return event_copy_all(&copier, &unused, event);
}

PsEvent *
ps_event_copy(char *space, const PsEvent *event, const PsMessage *message, const PsMessage *copied_message)
{
	EventCopier copier = {message, copied_message, space};
	PsEvent    *copy = (PsEvent *) space;

	event_copy_all(&copier, copy, event);
	return copy;
}
