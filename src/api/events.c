/*
 * events.c
 *	  decode_message() shows the event that a stream would read in a message, or why the
 *	  message would be a dead letter. to_profile_event() makes a profile event of a message
 *	  of another format, so that a user can repair it.
 */
#include "postgres.h"

#include "api/caller.h"
#include "api/testing.h"
#include "apply/user_decoder.h"
#include "catalog/pg_type.h"
#include "core/field_map.h"
#include "core/iso8601.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "settings.h"
#include "store/extension.h"
#include "store/rule_catalog.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PS_FUNCTION(ps_decode_message);
PS_FUNCTION(ps_decoded_values);
PS_FUNCTION(ps_to_profile_event);

/* Columns of decode_message(), in the order of its declaration. */
enum
{
	EVENT_ID,
	CUSTOMER_ID,
	EVENT_TYPE,
	EVENT_TIMESTAMP,
	SOURCE,
	SCHEMA_VERSION,
	PAYLOAD,
	ERRORS,
	KIND,
	NCOLUMNS
};

Datum
ps_payload_jsonb(const PsEvent *event)
{
	char	   *json = pnstrdup(event->payload, event->payload_len);

	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
}

static void
set_text(Datum *values, bool *nulls, int column, const char *value)
{
	nulls[column] = value == NULL;
	if (value != NULL)
		values[column] = CStringGetTextDatum(value);
}

static void
set_event(Datum *values, bool *nulls, const PsEvent *event)
{
	set_text(values, nulls, EVENT_ID, event->event_id);
	set_text(values, nulls, CUSTOMER_ID, event->customer_id);
	set_text(values, nulls, EVENT_TYPE, event->event_type);
	set_text(values, nulls, SOURCE, event->source);
	values[EVENT_TIMESTAMP] = TimestampTzGetDatum(event->timestamp);
	nulls[EVENT_TIMESTAMP] = false;
	values[SCHEMA_VERSION] = Int32GetDatum(event->schema_version);
	nulls[SCHEMA_VERSION] = false;
	if (event->payload != NULL)
	{
		values[PAYLOAD] = ps_payload_jsonb(event);
		nulls[PAYLOAD] = false;
	}
}

static void
set_reject(Datum *values, bool *nulls, const PsReject *reject)
{
	values[ERRORS] = ps_reject_errors(reject);
	nulls[ERRORS] = false;
	set_text(values, nulls, KIND, reject->kind);
}

/* Adds a row: the event of a message, or why it is a dead letter. */
static void
put_decoded(ReturnSetInfo *result, const PsMessage *message, const PsDecodeSettings *settings)
{
	PsEvent		event;
	PsReject   *reject;
	Datum		values[NCOLUMNS] = {0};
	bool		nulls[NCOLUMNS];

	memset(nulls, true, sizeof(nulls));
	if (ps_event_is_tombstone(message, settings->format_map))
		set_text(values, nulls, KIND, message->is_ignored ? "ignored" : "tombstone");
	else
	{
		reject = ps_event_decode(message, settings, &event);
		if (reject != NULL)
			set_reject(values, nulls, reject);
		else if (event.is_ignored)
			set_text(values, nulls, KIND, "tombstone");
		else
			set_event(values, nulls, &event);
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Calls a decoder for a message. */
static PsDecoded
events_call_decoder(PsFunction *decoder, const PsMessage *message)
{
	PsDecoded	decoded = {0};
	PsDecoded  *result = &decoded;

	ps_function_refuse_nested("a decoder");
	if (message->value != NULL && message->value_len <= ps_max_event_bytes)
		(void) ps_decoder_run(decoder, &message, &result, 1);
	return decoded;
}

/* The decoder that an argument names, which runs with the rights of its owner, as far as the caller has these; NULL: none. */
static PsFunction *
take_decoder(FunctionCallInfo fcinfo, int argument)
{
	Oid			function;
	char	   *name;

	if (PG_ARGISNULL(argument))
		return NULL;
	name = text_to_cstring(PG_GETARG_TEXT_PP(argument));
	if (name[0] == '\0')
		return NULL;
	function = ps_find_decoder(name);
	return ps_function_make(PS_DECODER, ps_function_name(function), ps_check_function(PS_DECODER, function), true);
}

static PsDecodeSettings
decode_settings(TimestampTz now)
{
	PsDecodeSettings settings = {
		.now = now,
		.max_clock_skew_us = (int64) ps_max_clock_skew_ms * 1000,
		.max_event_bytes = ps_max_event_bytes
	};

	return settings;
}

static void
refuse_headers(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("headers must be an object of strings, or an array as in dead_letters.headers"),
			 errhint("For example {\"ce_id\": \"1\"}, or [{\"name\": \"ce_id\", \"value\": \"1\"}, {\"name\": \"signature\", \"hex\": \"00ff\"}].")));
}

/* The string under a key in an element of the array of headers; NULL: none. */
static char *
header_part(JsonbContainer * element, const char *key)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(element, key, strlen(key), &value) == NULL || value.type == jbvNull)
		return NULL;
	if (value.type != jbvString)
		refuse_headers();
	return pnstrdup(value.val.string.val, value.val.string.len);
}

static PsHeader
header_of_element(const JsonbValue *element)
{
	PsHeader	header = {0};
	char	   *hex;

	if (element->type != jbvBinary || !JsonContainerIsObject(element->val.binary.data))
		refuse_headers();
	header.name = header_part(element->val.binary.data, "name");
	header.value = header_part(element->val.binary.data, "value");
	hex = header_part(element->val.binary.data, "hex");
	if (header.name == NULL)
		refuse_headers();
	if (header.value != NULL)
		header.value_len = strlen(header.value);
	else if (hex != NULL)
	{
		char	   *bytes = palloc(strlen(hex) / 2 + 1);

		header.value_len = (int) hex_decode(hex, strlen(hex), bytes);
		header.value = bytes;
	}
	return header;
}

/* Reads headers: an object of strings, or an array as in dead_letters.headers. */
static void
set_headers(PsMessage *message, Jsonb *headers)
{
	PsHeader   *list = palloc0(Max(JB_ROOT_COUNT(headers), 1) * sizeof(PsHeader));
	JsonbIterator *iterator = JsonbIteratorInit(&headers->root);
	JsonbIteratorToken token;
	JsonbValue	value;

	if (JB_ROOT_IS_SCALAR(headers))
		refuse_headers();
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM)
			list[message->nheaders++] = header_of_element(&value);
		else if (token == WJB_KEY)
			list[message->nheaders].name = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE)
		{
			if (value.type != jbvString && value.type != jbvNull)
				refuse_headers();
			if (value.type == jbvString)
			{
				list[message->nheaders].value = pnstrdup(value.val.string.val, value.val.string.len);
				list[message->nheaders].value_len = value.val.string.len;
			}
			message->nheaders++;
		}
	}
	message->headers = list;
}

/* Takes a bytea argument, which may be null. */
static void
set_bytes(FunctionCallInfo fcinfo, int argument, const char **bytes, int *len)
{
	bytea	   *value;

	if (PG_ARGISNULL(argument))
		return;
	value = PG_GETARG_BYTEA_PP(argument);
	*bytes = VARDATA_ANY(value);
	*len = VARSIZE_ANY_EXHDR(value);
}

/* The timestamp unit that an argument names. */
static PsTimeUnit
take_unit(FunctionCallInfo fcinfo, int argument)
{
	ps_check_argument(!PG_ARGISNULL(argument), "timestamp_unit must not be null");
	return ps_time_unit(text_to_cstring(PG_GETARG_TEXT_PP(argument)));
}

/* Makes a message and its format of the first arguments: value, key, headers, kafka_timestamp, format and field_map. */
static PsMessage
events_take_message(FunctionCallInfo fcinfo, PsFormatMap **format_map)
{
	PsMessage	message = {.kafka_timestamp = DT_NOBEGIN};

	set_bytes(fcinfo, 0, &message.value, &message.value_len);
	set_bytes(fcinfo, 1, &message.key, &message.key_len);
	if (!PG_ARGISNULL(2))
		set_headers(&message, PG_GETARG_JSONB_P(2));
	if (!PG_ARGISNULL(3))
		message.kafka_timestamp = PG_GETARG_TIMESTAMPTZ(3);
	ps_check_argument(!PG_ARGISNULL(4), "format must not be null");
	*format_map = ps_field_map_compile(text_to_cstring(PG_GETARG_TEXT_PP(4)), PG_ARGISNULL(5) ? NULL : PG_GETARG_JSONB_P(5));
	return message;
}

static Datum
ps_decode_message_checked(PG_FUNCTION_ARGS)
{
	PsFormatMap *format_map;
	PsMessage	message = events_take_message(fcinfo, &format_map);
	PsDecodeSettings settings;
	PsFunction *decoder;
	PsDecoded	decoded = {0};

	ps_check_argument(!PG_ARGISNULL(6), "as_of must not be null");
	settings = decode_settings(PG_GETARG_TIMESTAMPTZ(6));
	settings.format_map = format_map;
	settings.time_unit = take_unit(fcinfo, 7);
	decoder = take_decoder(fcinfo, 8);
	if (decoder != NULL)
		decoded = events_call_decoder(decoder, &message);
	settings.rules = ps_rules_get();
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < Max(decoded.nvalues, 1); i++)
	{
		ps_decoded_take(&message, &decoded, i);
		put_decoded((ReturnSetInfo *) fcinfo->resultinfo, &message, &settings);
	}
	return (Datum) 0;
}

/* Raises why a decoder made nothing of a message. */
static void
raise_refused(const PsDecoded *decoded)
{
	const char *sqlstate = decoded->sqlstate;

	ereport(ERROR,
			(errcode(sqlstate[0] == '\0' ? ERRCODE_DATA_EXCEPTION :
					 MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3], sqlstate[4])),
			 errmsg("%s", decoded->refused + strlen(PS_DECODER_ERROR))));
}

/* Calls the decoder of a stream, if it has one. Returns whether it has. */
static bool
events_decode(int stream_id, const PsMessage *message, PsDecoded *decoded)
{
	PsFunction *decoder = ps_rules_decoder(ps_rules_hold(), stream_id);

	PG_TRY();
	{
		if (decoder != NULL)
			*decoded = events_call_decoder(decoder, message);
	}
	PG_FINALLY();
	{
		ps_rules_release();
	}
	PG_END_TRY();
	return decoder != NULL;
}

static Datum
ps_decoded_values_checked(PG_FUNCTION_ARGS)
{
	PsMessage	message = {.kafka_timestamp = DT_NOBEGIN,.partition = -1};
	PsDecoded	decoded = {0};
	Datum	   *values;
	int			one = 1;

	set_bytes(fcinfo, 1, &message.value, &message.value_len);
	set_bytes(fcinfo, 2, &message.key, &message.key_len);
	if (!PG_ARGISNULL(3))
		set_headers(&message, PG_GETARG_JSONB_P(3));
	if (PG_ARGISNULL(0) || message.value == NULL || !events_decode(PG_GETARG_INT32(0), &message, &decoded))
	{
		Datum		value = PG_GETARG_DATUM(1);
		bool		null = PG_ARGISNULL(1);

		PG_RETURN_ARRAYTYPE_P(construct_md_array(&value, &null, 1, &one, &one, BYTEAOID, -1, false, TYPALIGN_INT));
	}
	if (decoded.refused != NULL)
		raise_refused(&decoded);
	values = palloc(Max(decoded.nvalues, 1) * sizeof(Datum));
	for (int i = 0; i < decoded.nvalues; i++)
		values[i] = PointerGetDatum(cstring_to_text(decoded.values[i]));
	PG_RETURN_ARRAYTYPE_P(construct_array(values, decoded.nvalues, BYTEAOID, -1, false, TYPALIGN_INT));
}

/* Adds a member to the JSON object. */
static void
append_member(StringInfo json, const char *name, const PsField *field)
{
	if (field->type == PS_JSON_NULL)
		return;
	appendStringInfo(json, "%s\"%s\": ", json->len > 1 ? ", " : "", name);
	if (field->type == PS_JSON_STRING)
		escape_json(json, field->text);
	else
		appendBinaryStringInfo(json, field->text, field->len);
}

/* Makes ISO 8601 text of a number that does not count the unit of a profile event. */
static void
spell_timestamp(PsField *field, PsTimeUnit unit)
{
	TimestampTz at;

	if ((field->type != PS_JSON_NUMBER && (field->type != PS_JSON_STRING || !ps_timestamp_is_count(field->text, field->len))) ||
		!ps_timestamp_from_epoch(field->text, unit, &at))
		return;
	field->type = PS_JSON_STRING;
	field->text = ps_format_timestamp(at);
	field->len = strlen(field->text);
}

/* The members that were found, as a profile event. */
Datum
ps_members_jsonb(PsMembers *members, PsTimeUnit unit)
{
	StringInfoData json;

	if (unit != PS_MILLISECONDS && !members->is_milliseconds && !ps_member_is_missing(&members->member[PS_TIMESTAMP]))
		spell_timestamp(&members->member[PS_TIMESTAMP], unit);

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	for (int m = 0; m < PS_MEMBERS; m++)
		append_member(&json, ps_member_name(m), &members->member[m]);
	appendStringInfoChar(&json, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

static Datum
ps_to_profile_event_checked(PG_FUNCTION_ARGS)
{
	PsDecodeSettings settings = decode_settings(DT_NOEND);
	PsFormatMap *format_map;
	PsMessage	message = events_take_message(fcinfo, &format_map);
	PsMembers	members;

	settings.format_map = format_map;
	settings.time_unit = take_unit(fcinfo, 6);
	message.partition = PG_ARGISNULL(7) ? 0 : PG_GETARG_INT32(7);
	message.offset = PG_ARGISNULL(8) ? 0 : PG_GETARG_INT64(8);
	message.epoch = PG_ARGISNULL(9) ? 0 : PG_GETARG_INT32(9);
	message.topic_no = PG_ARGISNULL(10) ? 0 : PG_GETARG_INT32(10);
	if (ps_event_is_tombstone(&message, format_map) || ps_members_read(&message, &settings, &members) != NULL ||
		members.error != NULL || members.is_ignored)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(ps_members_jsonb(&members, settings.time_unit));
}
