/*
 * attribute_map.c
 *	  Attribute maps: reads values from events and applies them to attributes and
 *	  columns.
 *
 *	  A value that an event should not have is returned as a reject. Only a value
 *	  that the profile cannot take is raised: applying has no other way to fail.
 */
#include "postgres.h"

#include "core/attribute.h"
#include "core/attribute_map.h"
#include "core/iso8601.h"
#include "core/numeric_call.h"
#include "core/timestamp.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#define ANY_TYPE (-1)

/* The type of values that a column takes; ANY_TYPE: no map may name it. */
static int
column_value_type(const PsProfileColumn *column)
{
	if (column->is_settable)
		switch (column->kind)
		{
			case PS_PROFILE_TEXT:
				return PS_VALUE_TEXT;
			case PS_PROFILE_NUMERIC:
			case PS_PROFILE_INT8:
				return PS_VALUE_NUMERIC;
			case PS_PROFILE_TIME:
			case PS_PROFILE_NULLABLE_TIME:
				return PS_VALUE_TIMESTAMP;
			default:
				break;
		}
	return ANY_TYPE;
}

static const PsProfileColumn *
find_column(const char *name)
{
	const PsProfileColumn *column = ps_profile_find_column(name);

	return column != NULL && column_value_type(column) != ANY_TYPE ? column : NULL;
}

static const struct
{
	const char *name;
	int			type;			/* the only type of its values; ANY_TYPE: each may be */
	PsValueType usual;			/* when the user names none */
}			operations[] = {
	[PS_OPERATION_SET] = {"set", ANY_TYPE, PS_VALUE_TEXT},
	[PS_OPERATION_SET_IF_NULL] = {"set_if_null", ANY_TYPE, PS_VALUE_TEXT},
	[PS_OPERATION_ADD] = {"add", PS_VALUE_NUMERIC, PS_VALUE_NUMERIC},
	[PS_OPERATION_SUBTRACT] = {"subtract", PS_VALUE_NUMERIC, PS_VALUE_NUMERIC},
	[PS_OPERATION_MAX] = {"max", ANY_TYPE, PS_VALUE_NUMERIC},
	[PS_OPERATION_MIN] = {"min", ANY_TYPE, PS_VALUE_NUMERIC},
	[PS_OPERATION_COUNT] = {"count", PS_VALUE_NUMERIC, PS_VALUE_NUMERIC},
	[PS_OPERATION_APPEND_UNIQUE] = {"append_unique", ANY_TYPE, PS_VALUE_TEXT},
	[PS_OPERATION_LATEST] = {"latest", ANY_TYPE, PS_VALUE_TEXT},
};

const char *
ps_operation_name(PsOperation operation)
{
	return operations[operation].name;
}

static const char *
init_type(PsAttributeMap *map, const char *type)
{
	int			only = operations[map->operation].type;
	int			column_type = map->column != NULL ? column_value_type(map->column) : ANY_TYPE;

	map->type = column_type != ANY_TYPE ? column_type : operations[map->operation].usual;
	if (type != NULL)
	{
		int			i;

		for (i = 0; i < PS_VALUE_TYPES && strcmp(type, ps_value_type_names[i]) != 0; i++)
			;
		if (i == PS_VALUE_TYPES)
			return "type must be text, numeric, boolean, timestamptz or jsonb";
		map->type = i;
	}
	if (column_type != ANY_TYPE && map->type != column_type)
		return psprintf("column %s has type %s", map->attribute, ps_value_type_names[column_type]);
	if (only != ANY_TYPE && map->type != only)
		return psprintf("operation %s is only for type %s", operations[map->operation].name, ps_value_type_names[only]);
	if ((map->operation == PS_OPERATION_MAX || map->operation == PS_OPERATION_MIN) && map->type == PS_VALUE_BOOLEAN)
		return psprintf("operation %s is not for type boolean", operations[map->operation].name);
	if (map->type == PS_VALUE_JSONB && map->operation != PS_OPERATION_SET && map->operation != PS_OPERATION_SET_IF_NULL &&
		map->operation != PS_OPERATION_LATEST)
		return psprintf("operation %s is not for type jsonb", operations[map->operation].name);
	if (map->operation == PS_OPERATION_APPEND_UNIQUE && map->column != NULL)
		return "operation append_unique is not for a column";
	return NULL;
}

const char *
ps_attribute_map_init(PsAttributeMap *map, const char *operation, const char *type)
{
	const char *wrong;
	int			i;

	map->len = strlen(map->attribute);
	map->column = find_column(map->attribute);
	for (i = 0; i < lengthof(operations) && strcmp(operation, operations[i].name) != 0; i++)
		;
	if (i == lengthof(operations))
		return "operation must be set, set_if_null, add, subtract, max, min, count, append_unique or latest";
	map->operation = i;
	map->path.nkeys = 0;
	if (map->path_text != NULL)
	{
		wrong = ps_path_parse(map->path_text, &map->path);
		if (wrong != NULL)
			return psprintf("\"%s\" %s", map->path_text, wrong);
	}
	if (map->path.nkeys == 0 && map->operation != PS_OPERATION_COUNT)
		return psprintf("operation %s needs a path, such as $.amount", operation);
	wrong = ps_filter_init(&map->filter);
	if (wrong != NULL)
		return wrong;
	return init_type(map, type);
}

PsReject *
ps_attribute_map_read(const PsAttributeMap *map, const PsEvent *event, JsonbValue *value)
{
	PsField		field;
	PsReject   *reject;

	value->type = jbvNull;
	if (!ps_filter_passes(&map->filter, event))
		return NULL;
	value->type = jbvBool;
	value->val.boolean = true;
	if (map->path.nkeys == 0)
		return NULL;
	field = ps_path_find(event, &map->path);
	if (map->operation == PS_OPERATION_COUNT)
	{
		if (field.type == PS_JSON_NULL || (field.type == PS_JSON_STRING && field.len == 0))
			value->type = jbvNull;
		return NULL;
	}
	reject = ps_value_read(&field, map->type, map->path_text, value);
	return reject != NULL ? reject : ps_value_check_kept(value, map->path_text);
}

static JsonbValue
get_column(const PsProfile *profile, const PsProfileColumn *column)
{
	const char *field = (const char *) profile + column->offset;
	JsonbValue	value = {.type = jbvNull};
	const text *content;
	TimestampTz at;
	char	   *iso;

	switch (column_value_type(column))
	{
		case PS_VALUE_TEXT:
			content = *(const text *const *) field;
			if (VARSIZE_ANY_EXHDR(content) > 0)
				value = ps_value_string(VARDATA_ANY(content), VARSIZE_ANY_EXHDR(content));
			break;
		case PS_VALUE_TIMESTAMP:
			at = *(const TimestampTz *) field;
			iso = at == DT_NOBEGIN ? NULL : ps_format_timestamp(at);
			if (iso != NULL)
				value = ps_value_string(iso, strlen(iso));
			break;
		default:
			value = ps_value_number(column->kind == PS_PROFILE_INT8 ? int64_to_numeric(*(const int64 *) field) : *(const Numeric *) field);
	}
	return value;
}

static TimestampTz
time_of(const JsonbValue *value)
{
	TimestampTz at = DT_NOBEGIN;

	if (value->type == jbvString)
		(void) ps_timestamp_from_iso(pnstrdup(value->val.string.val, value->val.string.len), value->val.string.len, &at);
	return at;
}

static int64
whole_number(const PsProfileColumn *column, Numeric numeric)
{
	Datum		number = NumericGetDatum(numeric);

	if (!DatumGetBool(DirectFunctionCall2(numeric_eq, number, DirectFunctionCall2(numeric_trunc, number, Int32GetDatum(0)))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s would not be a whole number", column->name)));
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, number));
}

static void
set_column(PsProfile *profile, const PsProfileColumn *column, const JsonbValue *value)
{
	char	   *field = (char *) profile + column->offset;

	switch (column_value_type(column))
	{
		case PS_VALUE_TEXT:
			*(const text **) field = cstring_to_text_with_len(value->val.string.val, value->val.string.len);
			break;
		case PS_VALUE_TIMESTAMP:
			*(TimestampTz *) field = time_of(value);
			break;
		default:
			if (column->kind == PS_PROFILE_INT8)
				*(int64 *) field = whole_number(column, value->val.numeric);
			else
				*(Numeric *) field = value->val.numeric;
	}
}

/* Raises when the stored value is not of the type that the operation works on: something else wrote it. */
static void
refuse_stored(const PsAttributeMap *map)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("attribute %s holds no %s that operation %s could change", map->attribute,
					map->operation == PS_OPERATION_APPEND_UNIQUE ? "array" : ps_value_type_names[map->type],
					operations[map->operation].name)));
}

static JsonbValue
attribute_map_calculate(const PsAttributeMap *map, const JsonbValue *stored, const JsonbValue *value)
{
	PGFunction	function = map->operation == PS_OPERATION_SUBTRACT ? numeric_sub : numeric_add;
	Numeric		operand = map->operation == PS_OPERATION_COUNT ? int64_to_numeric(1) : value->val.numeric;

	if (stored->type != jbvNull && stored->type != jbvNumeric)
		refuse_stored(map);
	return ps_value_number(DatumGetNumeric(DirectFunctionCall2(function,
															   NumericGetDatum(stored->type == jbvNull ? int64_to_numeric(0) : stored->val.numeric),
															   NumericGetDatum(operand))));
}

/* Orders two values of the map's type; text by its bytes. */
static int
attribute_map_compare(const PsAttributeMap *map, const JsonbValue *a, const JsonbValue *b)
{
	int			order;

	if (a->type != b->type)
		refuse_stored(map);
	if (map->type == PS_VALUE_NUMERIC)
		return ps_numeric_compare(a->val.numeric, b->val.numeric);
	if (map->type == PS_VALUE_TIMESTAMP)
	{
		TimestampTz x = time_of(a);
		TimestampTz y = time_of(b);

		return x < y ? -1 : x > y;
	}
	order = memcmp(a->val.string.val, b->val.string.val, Min(a->val.string.len, b->val.string.len));
	return order != 0 ? order : a->val.string.len - b->val.string.len;
}

/* Appends a value to an array, and removes the oldest when there are too many. False when the array has the value. */
static bool
attribute_map_append(const PsAttributeMap *map, JsonbValue *array, const JsonbValue *value)
{
	JsonbParseState *state = NULL;
	JsonbIterator *it;
	JsonbValue	element;
	JsonbValue	appended = *value;
	JsonbIteratorToken token;
	Jsonb	   *result;
	int			surplus = 0;

	if (array->type != jbvNull && (array->type != jbvBinary || (array->val.binary.data->header & JB_FARRAY) == 0))
		refuse_stored(map);
	(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	if (array->type == jbvBinary)
	{
		surplus = (int) (array->val.binary.data->header & JB_CMASK) - map->max_items + 1;
		it = JsonbIteratorInit(array->val.binary.data);
		while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
		{
			if (token != WJB_ELEM)
				continue;
			if (ps_value_equal(&element, value))
				return false;
			if (surplus-- <= 0)
				(void) pushJsonbValue(&state, WJB_ELEM, &element);
		}
	}
	(void) pushJsonbValue(&state, WJB_ELEM, &appended);
	result = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
	array->type = jbvBinary;
	array->val.binary.data = &result->root;
	array->val.binary.len = VARSIZE(result) - VARHDRSZ;
	return true;
}

/* Computes the new stored value; false when it stays as it is. */
static bool
attribute_map_operate(const PsAttributeMap *map, const JsonbValue *value, JsonbValue *stored, PsProfile *profile, TimestampTz at)
{
	switch (map->operation)
	{
		case PS_OPERATION_SET_IF_NULL:
			if (stored->type != jbvNull)
				return false;
			break;
		case PS_OPERATION_MAX:
			if (stored->type != jbvNull && attribute_map_compare(map, stored, value) >= 0)
				return false;
			break;
		case PS_OPERATION_MIN:
			if (stored->type != jbvNull && attribute_map_compare(map, stored, value) <= 0)
				return false;
			break;
		case PS_OPERATION_LATEST:
			if (!ps_attribute_make_latest(profile, map->attribute, map->len, at))
				return false;
			break;
		case PS_OPERATION_SET:
			break;
		case PS_OPERATION_ADD:
		case PS_OPERATION_SUBTRACT:
		case PS_OPERATION_COUNT:
			*stored = attribute_map_calculate(map, stored, value);
			return true;
		case PS_OPERATION_APPEND_UNIQUE:
			return attribute_map_append(map, stored, value);
	}
	if (ps_value_equal(stored, value))
		return false;
	*stored = *value;
	return true;
}

void
ps_attribute_map_apply(const PsAttributeMap *map, const JsonbValue *value, PsProfile *profile, TimestampTz at)
{
	JsonbValue	stored;

	if (value->type == jbvNull)
		return;
	stored = map->column != NULL ? get_column(profile, map->column) : ps_attribute_get(profile, map->attribute, map->len);
	if (!attribute_map_operate(map, value, &stored, profile, at))
		return;
	if (map->column != NULL)
		set_column(profile, map->column, &stored);
	else
		ps_attribute_set(profile, map->attribute, map->len, &stored);
}
