/*
 * value.c
 *	  Reads values of five types. A value that is not of its type gives a reject,
 *	  never an ERROR.
 */
#include "postgres.h"

#include "common/jsonapi.h"
#include "core/iso8601.h"
#include "core/json.h"
#include "core/timestamp.h"
#include "core/value.h"
#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#define MAX_DIGITS 38

const char *const ps_value_type_names[PS_VALUE_TYPES] = {"text", "numeric", "boolean", "timestamptz", "jsonb"};

/* Whether a JSON number needs more than MAX_DIGITS digits before the point, after it, or in all. */
static bool
number_too_long(const char *text)
{
	PsJsonNumber number = ps_json_number(text);
	int			last = number.exponent - number.ndigits + 1;	/* exponent of the last significant digit */

	if (number.ndigits == 0)
		return number.scale > MAX_DIGITS || abs(number.exponent) > MAX_DIGITS;
	return number.ndigits > MAX_DIGITS || number.exponent >= MAX_DIGITS || last < -MAX_DIGITS;
}

PsReject *
ps_value_read_number(const PsField *field, const char *name, Numeric *number)
{
	*number = NULL;
	if (field == NULL || field->type == PS_JSON_NULL ||
		(field->type == PS_JSON_STRING && field->len == 0))
		return NULL;
	if ((field->type != PS_JSON_NUMBER && field->type != PS_JSON_STRING) ||
		!IsValidJsonNumber(field->text, field->len))
		return ps_reject_make("handler", psprintf("Processing error: %s is not a number", name));
	if (field->len > PS_JSON_MAX_NUMBER_LEN || number_too_long(field->text))
		return ps_reject_make("handler", psprintf("Processing error: %s has more than %d digits", name, MAX_DIGITS));
	*number = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(field->text),
												  ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	return NULL;
}

JsonbValue
ps_value_string(const char *text, int len)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, text);
	value.val.string.len = len;
	return value;
}

JsonbValue
ps_value_jsonb(Jsonb *jsonb)
{
	JsonbValue	value;

	if (JB_ROOT_IS_SCALAR(jsonb) && JsonbExtractScalar(&jsonb->root, &value))
		return value;
	value.type = jbvBinary;
	value.val.binary.data = &jsonb->root;
	value.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	return value;
}

JsonbValue
ps_value_number(Numeric number)
{
	JsonbValue	value;

	value.type = jbvNumeric;
	value.val.numeric = number;
	return value;
}

/* Reads true or false, as a JSON boolean or a string; returns false when it is neither. */
static bool
read_boolean(const PsField *field, JsonbValue *value)
{
	bool		is_true = strcmp(field->text, "true") == 0;

	if ((field->type != PS_JSON_BOOLEAN && field->type != PS_JSON_STRING) ||
		(!is_true && strcmp(field->text, "false") != 0))
		return false;
	value->type = jbvBool;
	value->val.boolean = is_true;
	return true;
}

/* Reads a time in any form that the time of an event may have. */
static bool
value_read_time(const PsField *field, JsonbValue *value)
{
	TimestampTz at;
	char	   *text;

	if (field->type == PS_JSON_STRING && ps_timestamp_is_count(field->text, field->len))
	{
		/* 20260101 is a date without hyphens, and not a number of milliseconds */
		if (!ps_timestamp_from_epoch(field->text, PS_MILLISECONDS, &at) || at < PS_FIRST_COUNTED_TIME)
			return false;
	}
	else if (field->type == PS_JSON_STRING ? !ps_timestamp_from_iso(field->text, field->len, &at) :
			 field->type != PS_JSON_NUMBER || !ps_timestamp_from_epoch(field->text, PS_MILLISECONDS, &at))
		return false;
	text = ps_format_timestamp(at);

	*value = ps_value_string(text, strlen(text));
	return true;
}

static PsReject *
value_too_long(const char *name)
{
	return ps_reject_make("handler", psprintf("Processing error: %s is longer than %d bytes", name, PS_MAX_VALUE_BYTES));
}

JsonbValue
ps_value_of_field(const PsField *field)
{
	JsonbValue	value = {.type = jbvNull};

	switch (field->type)
	{
		case PS_JSON_NULL:
			break;
		case PS_JSON_BOOLEAN:
			value.type = jbvBool;
			value.val.boolean = field->text[0] == 't';
			break;
		case PS_JSON_NUMBER:
			value = ps_value_number(DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(field->text),
																		ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))));
			break;
		case PS_JSON_STRING:
			value = ps_value_string(field->text, field->len);
			break;
		case PS_JSON_OBJECT:
		case PS_JSON_ARRAY:
			value = ps_value_jsonb(DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(pnstrdup(field->text, field->len)))));
			break;
	}
	return value;
}

PsReject *
ps_value_read(const PsField *field, PsValueType type, const char *name, JsonbValue *value)
{
	static const char *const wanted[PS_VALUE_TYPES] = {"text", "a number", "true or false", "a timestamp", "JSON"};
	PsReject   *reject;
	Numeric		number;

	value->type = jbvNull;
	if (field == NULL || field->type == PS_JSON_NULL || (field->type == PS_JSON_STRING && field->len == 0))
		return NULL;
	switch (type)
	{
		case PS_VALUE_TEXT:
			if (field->type != PS_JSON_STRING && field->type != PS_JSON_NUMBER)
				break;
			*value = ps_value_string(field->text, field->len);
			return NULL;
		case PS_VALUE_NUMERIC:
			reject = ps_value_read_number(field, name, &number);
			if (reject == NULL)
				*value = ps_value_number(number);
			return reject;
		case PS_VALUE_BOOLEAN:
			if (!read_boolean(field, value))
				break;
			return NULL;
		case PS_VALUE_TIMESTAMP:
			if (!value_read_time(field, value))
				break;
			return NULL;
		case PS_VALUE_JSONB:
			if (field->len > PS_MAX_VALUE_BYTES)
				return value_too_long(name);
			if (field->type == PS_JSON_NUMBER)
				return ps_value_read(field, PS_VALUE_NUMERIC, name, value);
			*value = ps_value_of_field(field);
			return NULL;
	}
	return ps_reject_make("handler", psprintf("Processing error: %s is not %s", name, wanted[type]));
}

PsReject *
ps_value_check_kept(const JsonbValue *value, const char *name)
{
	if (value->type != jbvString || value->val.string.len <= PS_MAX_VALUE_BYTES)
		return NULL;
	return value_too_long(name);
}

bool
ps_value_equal(const JsonbValue *a, const JsonbValue *b)
{
	if (a->type != b->type)
		return false;
	switch (a->type)
	{
		case jbvNull:
			return true;
		case jbvString:
			return a->val.string.len == b->val.string.len &&
				memcmp(a->val.string.val, b->val.string.val, a->val.string.len) == 0;

		case jbvNumeric:
			return DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(a->val.numeric), NumericGetDatum(b->val.numeric)));
		case jbvBool:
			return a->val.boolean == b->val.boolean;

		case jbvBinary:
			return compareJsonbContainers(a->val.binary.data, b->val.binary.data) == 0;
		default:
			return false;
	}
}
