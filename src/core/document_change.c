/*
 * document_change.c
 *	  From the document of a profile back to the profile: what a function changed.
 */
#include "postgres.h"

#include "core/attribute.h"
#include "core/document.h"
#include "core/timestamp.h"
#include "core/value.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#define MAX_SHOWN_NAME 64

typedef enum MemberKind
{
	READ_ONLY,
	TEXT,
	NUMBER,
	WHOLE_NUMBER,
	TIME,
	ATTRIBUTES
} MemberKind;

typedef struct Member
{
	const char *name;
	MemberKind	kind;
	Size		offset;			/* in a profile */
} Member;

static const Member members[] = {
	{"customerId", READ_ONLY, 0},
	{"version", READ_ONLY, 0},
	{"lastUpdatedAt", READ_ONLY, 0},
	{"eventCounts", READ_ONLY, 0},
	{"firstName", TEXT, offsetof(PsProfile, first_name)},
	{"lastName", TEXT, offsetof(PsProfile, last_name)},
	{"email", TEXT, offsetof(PsProfile, email)},
	{"phone", TEXT, offsetof(PsProfile, phone)},
	{"preferredChannel", TEXT, offsetof(PsProfile, preferred_channel)},
	{"totalBalance", NUMBER, offsetof(PsProfile, total_balance)},
	{"accountCount", WHOLE_NUMBER, offsetof(PsProfile, account_count)},
	{"lastTransactionDate", TIME, offsetof(PsProfile, last_transaction_at)},
	{"lastLoginDate", TIME, offsetof(PsProfile, last_login_at)},
	{"attributes", ATTRIBUTES, 0},
};

static const Member *
document_change_find_member(const JsonbValue *key)
{
	for (int i = 0; i < lengthof(members); i++)
		if (strlen(members[i].name) == key->val.string.len &&
			memcmp(members[i].name, key->val.string.val, key->val.string.len) == 0)
			return &members[i];
	return NULL;
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
	if (a->val.string.len != b->val.string.len)
		return a->val.string.len < b->val.string.len;
	return memcmp(a->val.string.val, b->val.string.val, a->val.string.len) < 0;
}

/* Goes on to the next member of an object, skipping into none; false at its end. */
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

/* What two objects are compared by, which have their keys in the same order. */
typedef struct Comparison
{
	JsonbIterator *old;
	JsonbIterator *new;
	bool		more;			/* in the old one, whose next member follows */
	JsonbValue	old_key;
	JsonbValue	old_value;
	bool		found;			/* whether the last member of the new one has an old value, which that is */
} Comparison;

static Comparison
begin_comparison(JsonbContainer * old, JsonbContainer * new)
{
	Comparison	comparison = {JsonbIteratorInit(old), JsonbIteratorInit(new)};

	comparison.more = next_member(&comparison.old, &comparison.old_key, &comparison.old_value);
	return comparison;
}

/* Finds the next member that is new or has another value than before. */
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

/* Sets the attributes that differ from those before, NULL: there were none. */
static const char *
take_attributes(PsProfile *profile, const JsonbValue *before, const JsonbValue *after)
{
	Comparison	comparison;
	JsonbValue	key;
	JsonbValue	value;

	if (after->type != jbvBinary || !JsonContainerIsObject(after->val.binary.data))
		return "returned attributes that are not an object";
	/* compared with itself, but never read, it has nothing before */
	comparison = begin_comparison(before != NULL ? before->val.binary.data : after->val.binary.data, after->val.binary.data);
	comparison.more &= before != NULL;
	while (next_change(&comparison, &key, &value))
	{
		value = document_change_copy_value(&value);
		ps_attribute_set(profile, pnstrdup(key.val.string.val, key.val.string.len), key.val.string.len, &value);
	}
	return NULL;
}

static const char *
take_number(const Member *member, char *place, const JsonbValue *value)
{
	PsField		field = {.type = PS_JSON_NUMBER};
	Numeric		number;
	Datum		datum;

	if (value->type != jbvNumeric)
		return psprintf("returned %s that is not a number", member->name);
	field.text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
	field.len = strlen(field.text);
	if (ps_value_read_number(&field, member->name, &number) != NULL)
		return psprintf("returned %s with too many digits", member->name);
	if (member->kind == NUMBER)
	{
		*(Numeric *) place = number;
		return NULL;
	}
	datum = NumericGetDatum(number);
	/* a number that int8 does not hold has more than 18 digits */
	if (strspn(field.text, "0123456789") != field.len || field.len > 18)
		return psprintf("returned %s that is not a whole number of at most 18 digits", member->name);
	*(int64 *) place = DatumGetInt64(DirectFunctionCall1(numeric_int8, datum));
	return NULL;
}

/* Sets a member that is no object; what is wrong with its value, or NULL. */
static const char *
take_member(PsProfile *profile, const Member *member, const JsonbValue *value)
{
	char	   *place = (char *) profile + member->offset;

	switch (member->kind)
	{
		case READ_ONLY:
			return psprintf("changed %s", member->name);
		case TEXT:
			if (value->type != jbvString && value->type != jbvNull)
				return psprintf("returned %s that is not text", member->name);
			*(const text **) place = value->type == jbvNull ? cstring_to_text("") :
				cstring_to_text_with_len(value->val.string.val, value->val.string.len);
			return NULL;
		case NUMBER:
		case WHOLE_NUMBER:
			return take_number(member, place, value);
		case TIME:
			if (value->type == jbvNull)
				*(TimestampTz *) place = DT_NOBEGIN;
			else if (value->type != jbvString ||
					 !ps_timestamp_from_iso(pnstrdup(value->val.string.val, value->val.string.len), value->val.string.len,
											(TimestampTz *) place))
				return psprintf("returned %s that is not a timestamp", member->name);
			return NULL;
		case ATTRIBUTES:
			break;
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
		const Member *member = document_change_find_member(&key);

		if (member == NULL)
			wrong = refuse_unknown(&key);
		else if (member->kind == ATTRIBUTES)
			wrong = take_attributes(profile, comparison.found ? &comparison.old_value : NULL, &value);
		else
			wrong = take_member(profile, member, &value);
	}
	return wrong;
}

/* Sets a member that no function may change. */
static const char *
read_read_only(PsProfile *profile, const Member *member, const JsonbValue *value, char **customer_id)
{
	JsonbIterator *it;
	JsonbValue	key;
	JsonbValue	count;
	Member		part = {member->name, WHOLE_NUMBER};
	int64		number;
	const char *wrong = NULL;

	if (strcmp(member->name, "customerId") == 0)
	{
		if (value->type != jbvString)
			return "returned customerId that is not text";
		*customer_id = pnstrdup(value->val.string.val, value->val.string.len);
		return NULL;
	}
	if (strcmp(member->name, "version") == 0)
	{
		part.offset = offsetof(PsProfile, version);
		return take_member(profile, &part, value);
	}
	if (strcmp(member->name, "lastUpdatedAt") == 0)
	{
		part.kind = TIME;
		part.offset = offsetof(PsProfile, updated_at);
		return take_member(profile, &part, value);
	}
	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		return "returned eventCounts that are not an object";
	it = JsonbIteratorInit(value->val.binary.data);
	while (wrong == NULL && next_member(&it, &key, &count))
	{
		wrong = take_number(&part, (char *) &number, &count);
		if (wrong == NULL)
			(void) ps_profile_add_count(profile, pnstrdup(key.val.string.val, key.val.string.len), key.val.string.len, number);
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
		const Member *member = document_change_find_member(&key);

		if (member != NULL && member->kind == READ_ONLY)
			wrong = read_read_only(profile, member, &value, customer_id);
		else if (member != NULL && member->kind == ATTRIBUTES)
			wrong = take_attributes(profile, NULL, &value);
		else if (member != NULL)
			wrong = take_member(profile, member, &value);
	}
	return wrong;
}
