/*
 * document_change.c
 *	  Reads the document of a profile: all of it, or what a function changed in it.
 */
#include "postgres.h"

#include "core/attribute.h"
#include "core/document.h"
#include "core/jsonb_object.h"
#include "core/jsonb_size.h"
#include "core/timestamp.h"
#include "core/value.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#define MAX_SHOWN_NAME 64

/* The column of a member; NULL: there is none, as for customerId, which a profile in memory does not hold. */
static const PsProfileColumn *
column_of_key(const JsonbValue *key)
{
	return ps_profile_find_member(key->val.string.val, key->val.string.len);
}

static bool
is_customer_id(const JsonbValue *key)
{
	return key->val.string.len == strlen(PS_CUSTOMER_ID_MEMBER) &&
		memcmp(key->val.string.val, PS_CUSTOMER_ID_MEMBER, key->val.string.len) == 0;
}

static bool
is_equal(const JsonbValue *a, const JsonbValue *b)
{
	if (a->type != jbvBinary || b->type != jbvBinary)
		return ps_value_equal(a, b);
	return (a->val.binary.len == b->val.binary.len && memcmp(a->val.binary.data, b->val.binary.data, a->val.binary.len) == 0) ||
		compareJsonbContainers(a->val.binary.data, b->val.binary.data) == 0;
}

/* Whether a key comes before another one in jsonb. */
static bool
document_change_precedes(const JsonbValue *a, const JsonbValue *b)
{
	return ps_jsonb_compare_keys(a->val.string.val, a->val.string.len, b->val.string.val, b->val.string.len) < 0;
}

/* Goes on to the next member of an object, without entering its value; false at the end of the object. */
static bool
next_member(JsonbIterator **it, JsonbValue *key, JsonbValue *value)
{
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(it, key, true)) != WJB_KEY)
		if (token == WJB_DONE)
			return false;
	(void) JsonbIteratorNext(it, value, true);
	return true;
}

/* Compares two objects member by member, which is one pass because jsonb sorts keys. */
typedef struct Comparison
{
	JsonbIterator *old;
	JsonbIterator *new;
	bool		more;			/* false: the old object has no more members */
	JsonbValue	old_key;		/* next member of the old object */
	JsonbValue	old_value;
	bool		found;			/* old_value belongs to the last member of the new object */
} Comparison;

static Comparison
begin_comparison(JsonbContainer * old, JsonbContainer * new)
{
	Comparison	comparison = {JsonbIteratorInit(old), JsonbIteratorInit(new)};

	comparison.more = next_member(&comparison.old, &comparison.old_key, &comparison.old_value);
	return comparison;
}

/* Finds the next member of the new object that is added or changed. */
static bool
next_change(Comparison *comparison, JsonbValue *key, JsonbValue *value)
{
	while (next_member(&comparison->new, key, value))
	{
		while (comparison->more && document_change_precedes(&comparison->old_key, key))
			comparison->more = next_member(&comparison->old, &comparison->old_key, &comparison->old_value);
		comparison->found = comparison->more && !document_change_precedes(key, &comparison->old_key);
		if (!comparison->found || !is_equal(&comparison->old_value, value))
			return true;
	}
	return false;
}

/* A value that lives as long as a profile. */
static JsonbValue
document_change_copy_value(const JsonbValue *value)
{
	JsonbValue	copy = *value;

	if (value->type == jbvString)
		copy.val.string.val = pnstrdup(value->val.string.val, value->val.string.len);
	else if (value->type == jbvNumeric)
		copy.val.numeric = DatumGetNumericCopy(NumericGetDatum(value->val.numeric));
	else if (value->type == jbvBinary)
		copy.val.binary.data = memcpy(palloc(value->val.binary.len), value->val.binary.data, value->val.binary.len);
	return copy;
}

/* Sets the attributes that differ from those before; before NULL: there were none. */
static const char *
take_attributes(PsProfile *profile, const JsonbValue *before, const JsonbValue *after)
{
	Comparison	comparison;
	JsonbValue	key;
	JsonbValue	value;

	if (after->type != jbvBinary || !JsonContainerIsObject(after->val.binary.data))
		return "returned attributes that are not an object";
	/* the iterator needs some object: without one before, it gets the new object and more is false */
	comparison = begin_comparison(before != NULL ? before->val.binary.data : after->val.binary.data, after->val.binary.data);
	comparison.more &= before != NULL;
	while (next_change(&comparison, &key, &value))
	{
		if (!ps_jsonb_numbers_fit(&value))
			return "returned an attribute with a number that is out of range";
		value = document_change_copy_value(&value);
		ps_attribute_set(profile, pnstrdup(key.val.string.val, key.val.string.len), key.val.string.len, &value);
	}
	return NULL;
}

static const char *
take_number(const char *name, const JsonbValue *value, Numeric *result)
{
	PsField		field = {.type = PS_JSON_NUMBER};
	Numeric		number;

	if (value->type != jbvNumeric)
		return psprintf("returned %s that is not a number", name);
	field.text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
	field.len = strlen(field.text);
	if (ps_value_read_number(&field, name, &number) != NULL)
		return psprintf("returned %s with too many digits", name);
	*result = number;
	return NULL;
}

static const char *
take_whole_number(const char *name, const JsonbValue *value, int64 *result)
{
	Numeric		number;
	const char *wrong = take_number(name, value, &number);
	const char *digits;

	if (wrong != NULL)
		return wrong;
	digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
	/* a number that int8 does not hold has more than 18 digits */
	if (strspn(digits, "0123456789") != strlen(digits) || strlen(digits) > 18)
		return psprintf("returned %s that is not a whole number of at most 18 digits", name);
	*result = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(number)));
	return NULL;
}

static const char *
document_take_text(const char *name, const JsonbValue *value, const text **result)
{
	if (value->type != jbvString && value->type != jbvNull)
		return psprintf("returned %s that is not text", name);
	*result = value->type == jbvNull ? cstring_to_text("") :
		cstring_to_text_with_len(value->val.string.val, value->val.string.len);
	return NULL;
}

static const char *
take_time(const char *name, const JsonbValue *value, TimestampTz *result)
{
	if (value->type == jbvNull)
		*result = DT_NOBEGIN;
	else if (value->type != jbvString ||
			 !ps_timestamp_from_iso(pnstrdup(value->val.string.val, value->val.string.len), value->val.string.len, result))
		return psprintf("returned %s that is not a timestamp", name);
	return NULL;
}

/* Adds the counters of a document to a profile that has none. */
static const char *
take_event_counts(PsProfile *profile, const char *name, const JsonbValue *value)
{
	JsonbIterator *it;
	JsonbValue	key;
	JsonbValue	count;
	int64		number;
	const char *wrong = NULL;

	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		return psprintf("returned %s that are not an object", name);
	it = JsonbIteratorInit(value->val.binary.data);
	while (wrong == NULL && next_member(&it, &key, &count))
	{
		wrong = take_whole_number(name, &count, &number);
		if (wrong == NULL)
			ps_profile_add_count(profile, pnstrdup(key.val.string.val, key.val.string.len), key.val.string.len)->added = number;
	}
	return wrong;
}

/* Sets a column by its member; before NULL: it had no value. Returns what is wrong with the value, or NULL. */
static const char *
take_member(PsProfile *profile, const PsProfileColumn *column, const JsonbValue *before, const JsonbValue *value)
{
	char	   *field = (char *) profile + column->offset;

	switch (column->kind)
	{
		case PS_PROFILE_TEXT:
			return document_take_text(column->member, value, (const text **) field);
		case PS_PROFILE_NUMERIC:
			return take_number(column->member, value, (Numeric *) field);
		case PS_PROFILE_INT8:
			return take_whole_number(column->member, value, (int64 *) field);
		case PS_PROFILE_TIME:
		case PS_PROFILE_NULLABLE_TIME:
			return take_time(column->member, value, (TimestampTz *) field);
		case PS_PROFILE_ATTRIBUTES:
			return take_attributes(profile, before, value);
		case PS_PROFILE_EVENT_COUNTS:
			return take_event_counts(profile, column->member, value);
		case PS_PROFILE_EVENT_IDS:
		case PS_PROFILE_WINDOW_STATE:
		case PS_PROFILE_ATTRIBUTE_TIMES:
		case PS_PROFILE_SEGMENT_STATE:
			break;				/* no members of the document */
	}
	return NULL;
}

static const char *
refuse_unknown(const JsonbValue *key)
{
	int			shown = pg_encoding_mbcliplen(PG_UTF8, key->val.string.val, key->val.string.len, MAX_SHOWN_NAME);

	return psprintf("returned the unknown member %s; put what profiles have no member for into attributes",
					pnstrdup(key->val.string.val, shown));
}

const char *
ps_document_take(PsProfile *profile, const Jsonb *before, const Jsonb *after)
{
	Comparison	comparison;
	JsonbValue	key;
	JsonbValue	value;
	const char *wrong = NULL;

	if (!JB_ROOT_IS_OBJECT(after))
		return "returned no object";
	comparison = begin_comparison(unconstify(JsonbContainer *, &before->root), unconstify(JsonbContainer *, &after->root));
	while (wrong == NULL && next_change(&comparison, &key, &value))
	{
		const PsProfileColumn *column = column_of_key(&key);

		if (is_customer_id(&key))
			wrong = "changed " PS_CUSTOMER_ID_MEMBER;
		else if (column == NULL)
			wrong = refuse_unknown(&key);
		else if (!column->is_settable)
			wrong = psprintf("changed %s", column->member);
		else
			wrong = take_member(profile, column, comparison.found ? &comparison.old_value : NULL, &value);
	}
	return wrong;
}

const char *
ps_document_read(const Jsonb *document, PsProfile *profile, char **customer_id)
{
	JsonbIterator *it = JsonbIteratorInit(unconstify(JsonbContainer *, &document->root));
	JsonbValue	key;
	JsonbValue	value;
	const char *wrong = NULL;

	if (!JB_ROOT_IS_OBJECT(document))
		return "returned no object";
	ps_profile_init(profile);
	while (wrong == NULL && next_member(&it, &key, &value))
	{
		const PsProfileColumn *column = column_of_key(&key);
		bool		is_id = is_customer_id(&key);

		if (is_id && value.type != jbvString)
			wrong = "returned " PS_CUSTOMER_ID_MEMBER " that is not text";
		else if (is_id)
			*customer_id = pnstrdup(value.val.string.val, value.val.string.len);
		else if (column != NULL)
			wrong = take_member(profile, column, NULL, &value);
	}
	return wrong;
}
