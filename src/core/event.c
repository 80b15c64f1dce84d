/*
 * event.c
 *	  A customer event: decoding and validation of one message value.
 *
 *	  Bytes that are not a JSON object are "malformed", with one error; an
 *	  object that is not an event is "invalid", with every error it has.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "core/event.h"
#include "core/json.h"
#include "core/timestamp.h"
#include "mb/pg_wchar.h"

#define MAX_ERRORS 16
#define MAX_ERROR_BYTES 500
#define MAX_SHOWN_VALUE_BYTES 64
#define SCHEMA_VERSION 1

/* The members of an event. */
typedef enum Member
{
	EVENT_ID,
	CUSTOMER_ID,
	EVENT_TYPE,
	TIMESTAMP,
	PAYLOAD,
	SOURCE,
	SCHEMA
} Member;

static const PsField no_members[] = {
	[EVENT_ID] = {"eventId", PS_JSON_NULL},
	[CUSTOMER_ID] = {"customerId", PS_JSON_NULL},
	[EVENT_TYPE] = {"eventType", PS_JSON_NULL},
	[TIMESTAMP] = {"timestamp", PS_JSON_NULL},
	[PAYLOAD] = {"payload", PS_JSON_NULL},
	[SOURCE] = {"source", PS_JSON_NULL},
	[SCHEMA] = {"schemaVersion", PS_JSON_NULL},
};

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

/* The rejection of bytes that are not a JSON object; the reason may quote any length of them. */
static PsReject *
malformed(const char *reason)
{
	int			len = pg_encoding_mbcliplen(PG_UTF8, reason, strlen(reason),
											MAX_ERROR_BYTES - (int) strlen("Malformed JSON: "));

	len = pg_encoding_verifymbstr(PG_UTF8, reason, len);
	return ps_reject_make("malformed", psprintf("Malformed JSON: %s", pnstrdup(reason, len)));
}

/* Absent, null, an empty string, zero and false are no value. */
static bool
is_missing(const PsField *field)
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

/* Whether a member says version 1, as a number or a string, or nothing. */
static bool
is_supported_version(const PsField *field)
{
	PsJsonNumber number;

	if (field->type == PS_JSON_NULL)
		return true;
	if (field->type == PS_JSON_STRING)
		return strcmp(field->text, CppAsString2(SCHEMA_VERSION)) == 0;
	if (field->type != PS_JSON_NUMBER)
		return false;
	number = ps_json_number(field->text);
	return !number.negative && number.ndigits == 1 && number.exponent == 0 &&
		number.digits[0] == '0' + SCHEMA_VERSION;
}

static const char *
unsupported_version(const PsField *field)
{
	const char *text = field->text;
	int			len = field->len;

	if (field->type == PS_JSON_OBJECT)
		return "Unsupported schemaVersion object";
	if (field->type == PS_JSON_ARRAY)
		return "Unsupported schemaVersion array";
	len = pg_encoding_mbcliplen(PG_UTF8, text, len, MAX_SHOWN_VALUE_BYTES);
	return psprintf("Unsupported schemaVersion %s", pnstrdup(text, len));
}

static bool
read_timestamp(const PsField *field, TimestampTz *timestamp)
{
	if (field->type == PS_JSON_STRING)
		return ps_timestamp_from_iso(field->text, field->len, timestamp);
	return field->type == PS_JSON_NUMBER && ps_timestamp_from_epoch_ms(field->text, timestamp);
}

/* Collects every reason against an event, in the order the contract names; NULL when there is none. */
static PsReject *
validate(const PsField *members, const PsDecodeSettings *settings, TimestampTz *timestamp)
{
	static const char *const missing[] = {"Missing eventId", "Missing customerId",
	"Missing eventType", "Missing timestamp"};
	static const char *const invalid[] = {"Invalid eventId", "Invalid customerId", "Invalid eventType"};
	static const struct
	{
		Member		member;
		const char *error;
	}			too_long[] = {
		{CUSTOMER_ID, "customerId too long"},
		{EVENT_ID, "eventId too long"},
		{EVENT_TYPE, "eventType too long"}
	};
	PsReject   *reject = NULL;
	bool		has_timestamp = !is_missing(&members[TIMESTAMP]);

	for (int i = EVENT_ID; i <= TIMESTAMP; i++)
	{
		if (is_missing(&members[i]))
			add_error(&reject, missing[i]);
	}
	for (int i = EVENT_ID; i <= EVENT_TYPE; i++)
	{
		if (!is_missing(&members[i]) && !is_scalar_text(&members[i]))
			add_error(&reject, invalid[i]);
	}
	if (has_timestamp && !read_timestamp(&members[TIMESTAMP], timestamp))
	{
		add_error(&reject, "Invalid timestamp");
		has_timestamp = false;
	}
	if (members[PAYLOAD].type != PS_JSON_NULL && members[PAYLOAD].type != PS_JSON_OBJECT)
		add_error(&reject, "Invalid payload");
	/* the side that cannot overflow: now may be infinite */
	if (has_timestamp && *timestamp - settings->max_clock_skew_us > settings->now)
		add_error(&reject, "Timestamp too far in the future");
	if (!is_supported_version(&members[SCHEMA]))
		add_error(&reject, unsupported_version(&members[SCHEMA]));
	for (int i = 0; i < lengthof(too_long); i++)
	{
		const PsField *field = &members[too_long[i].member];

		if (is_scalar_text(field) && field->len > PS_MAX_ID_BYTES)
			add_error(&reject, too_long[i].error);
	}
	return reject;
}

/* Says whose event it is, when that can be told. */
static void
set_customer(const PsField *field, PsEvent *event)
{
	bool		usable = is_scalar_text(field) && !is_missing(field) && field->len <= PS_MAX_ID_BYTES;

	event->customer_id = usable ? field->text : NULL;
	event->customer_id_len = usable ? field->len : 0;
}

PsReject *
ps_event_decode(const char *value, int len, const PsDecodeSettings *settings, PsEvent *event)
{
	PsField		members[lengthof(no_members)];
	PsJsonReader reader = {members, lengthof(members), PAYLOAD};
	TimestampTz timestamp = 0;
	const char *reason;
	PsReject   *reject;

	memcpy(members, no_members, sizeof(members));
	set_customer(&members[CUSTOMER_ID], event);
	if (len > settings->max_event_bytes)
		return ps_reject_make("malformed", psprintf("Event too large: %d bytes (the limit is %d)",
													len, settings->max_event_bytes));
	if (len > 0 && value[0] == '\0')
		return ps_reject_make("malformed", "Schema registry framing is not supported by this format");
	reason = ps_json_read(value, len, &reader);
	set_customer(&members[CUSTOMER_ID], event);
	if (reason != NULL)
		return malformed(reason);
	reject = validate(members, settings, &timestamp);
	if (reject != NULL)
		return reject;

	event->event_id = members[EVENT_ID].text;
	event->event_id_len = members[EVENT_ID].len;
	/* here the bytes are at hand, later they are far away */
	event->customer_key = (int64) hash_bytes_extended((const unsigned char *) event->customer_id, event->customer_id_len, 0);
	event->event_type = members[EVENT_TYPE].text;
	event->event_type_len = members[EVENT_TYPE].len;
	event->timestamp = timestamp;
	event->source = members[SOURCE].type == PS_JSON_STRING ? members[SOURCE].text : NULL;
	event->schema_version = SCHEMA_VERSION;
	event->fields = reader.fields;
	event->nfields = reader.nfields;
	event->payload = members[PAYLOAD].type == PS_JSON_OBJECT ? members[PAYLOAD].text : NULL;
	event->payload_len = event->payload ? members[PAYLOAD].len : 0;
	return NULL;
}
