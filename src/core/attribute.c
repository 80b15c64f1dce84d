/*
 * attribute.c
 *	  Attributes of a profile. Their jsonb is parsed when the first attribute is
 *	  asked for, and made anew only when one has changed: most events touch none.
 */
#include "postgres.h"

#include "core/attribute.h"
#include "core/numeric_call.h"
#include "core/unix_time.h"
#include "utils/builtins.h"

struct PsAttribute
{
	const char *name;
	int			len;
	JsonbValue	value;			/* a scalar or jbvBinary; jbvNull: removed, or there is only a time */
	JsonbValue	noted;			/* its value when ps_attribute_changes() looked last */
	Numeric		at;				/* time that operation latest noted, in microseconds since 1970; NULL: none */
};

/* Adds an empty attribute. */
static struct PsAttribute *
add_item(PsAttributes *attributes, const char *name, int len)
{
	struct PsAttribute *item;

	if (attributes->nitems == attributes->capacity)
	{
		attributes->capacity = Max(8, 2 * attributes->capacity);
		if (attributes->items == NULL)
			attributes->items = palloc(attributes->capacity * sizeof(struct PsAttribute));
		else
			attributes->items = repalloc(attributes->items, attributes->capacity * sizeof(struct PsAttribute));
	}
	item = &attributes->items[attributes->nitems++];
	item->name = name;
	item->len = len;
	item->value.type = item->noted.type = jbvNull;
	item->at = NULL;
	return item;
}

/* Finds an attribute, or adds an empty one. */
static struct PsAttribute *
find_item(PsAttributes *attributes, const char *name, int len)
{
	for (int i = 0; i < attributes->nitems; i++)
		if (attributes->items[i].len == len && memcmp(attributes->items[i].name, name, len) == 0)
			return &attributes->items[i];
	return add_item(attributes, name, len);
}

/* Parses the attributes of the row, or their times. */
static void
read_object(PsAttributes *attributes, struct varlena *stored, bool times)
{
	JsonbIterator *it;
	JsonbValue	value;
	JsonbIteratorToken token;
	struct PsAttribute *item = NULL;

	if (stored == NULL)
		return;
	it = JsonbIteratorInit(&((Jsonb *) stored)->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY && !times)
			item = add_item(attributes, value.val.string.val, value.val.string.len);	/* not find_item(): jsonb has
																						 * no key twice */
		else if (token == WJB_KEY)
			item = find_item(attributes, value.val.string.val, value.val.string.len);
		else if (token != WJB_VALUE || item == NULL)
			continue;
		else if (!times)
			item->value = item->noted = value;
		else if (value.type == jbvNumeric)
			item->at = value.val.numeric;
	}
}

static struct PsAttribute *
item_of(PsProfile *profile, const char *name, int len)
{
	PsAttributes *attributes = &profile->attributes;

	if (!attributes->is_read)
	{
		read_object(attributes, attributes->stored, false);
		read_object(attributes, attributes->stored_times, true);
		attributes->is_read = true;
	}
	return find_item(attributes, name, len);
}

JsonbValue
ps_attribute_get(PsProfile *profile, const char *name, int len)
{
	return item_of(profile, name, len)->value;
}

void
ps_attribute_set(PsProfile *profile, const char *name, int len, const JsonbValue *value)
{
	item_of(profile, name, len)->value = *value;
	profile->attributes.changed = profile->attributes.is_touched = true;
}

void
ps_attribute_changes(PsProfile *profile, void (*take) (void *arg, const char *name, int len, const JsonbValue *old), void *arg)
{
	PsAttributes *attributes = &profile->attributes;

	if (!attributes->is_touched)
		return;
	for (int i = 0; i < attributes->nitems; i++)
	{
		struct PsAttribute *item = &attributes->items[i];

		if (item->value.type == jbvNull && item->noted.type == jbvNull)
			continue;
		if (!ps_value_equal(&item->value, &item->noted))
			take(arg, item->name, item->len, &item->noted);
		item->noted = item->value;
	}
	attributes->is_touched = false;
}

bool
ps_attribute_make_latest(PsProfile *profile, const char *name, int len, TimestampTz at)
{
	struct PsAttribute *item = item_of(profile, name, len);
	Numeric		since_1970 = int64_to_numeric(ps_unix_us_of(at));

	if (item->at != NULL &&
		ps_numeric_compare(item->at, since_1970) > 0)
		return false;
	item->at = since_1970;
	profile->attributes.changed = true;
	return true;
}

static void
push_key(JsonbParseState **state, const struct PsAttribute *item)
{
	JsonbValue	key = ps_value_string(item->name, item->len);

	(void) pushJsonbValue(state, WJB_KEY, &key);
}

/* Raises when the attributes are too many or too large. A profile that was too large before may become smaller. */
static void
attribute_check_size(const PsAttributes *attributes, int count, Size bytes)
{
	if ((bytes <= PS_MAX_ATTRIBUTES_BYTES || (attributes->stored != NULL && bytes <= VARSIZE_ANY(attributes->stored))) &&
		count <= PS_MAX_ATTRIBUTES)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("the profile would have %d attributes of %zu bytes", count, bytes),
			 errdetail("A profile has at most %d attributes of %d bytes in all.", PS_MAX_ATTRIBUTES, PS_MAX_ATTRIBUTES_BYTES),
			 errhint("Map fewer attributes with map_attribute(), or give append_unique a smaller max_items.")));
}

struct varlena *
ps_attributes_jsonb(const PsProfile *profile)
{
	const PsAttributes *attributes = &profile->attributes;
	JsonbParseState *state = NULL;
	struct varlena *result;
	int			count = 0;

	if (!attributes->changed && attributes->stored != NULL)
		return attributes->stored;
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < attributes->nitems; i++)
	{
		struct PsAttribute *item = &attributes->items[i];

		if (item->value.type == jbvNull)
			continue;
		push_key(&state, item);
		(void) pushJsonbValue(&state, WJB_VALUE, &item->value);
		count++;
	}
	result = (struct varlena *) JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	attribute_check_size(attributes, count, VARSIZE(result));
	return result;
}

struct varlena *
ps_attribute_times_jsonb(const PsProfile *profile)
{
	const PsAttributes *attributes = &profile->attributes;
	JsonbParseState *state = NULL;

	if (!attributes->changed)
		return attributes->stored_times;
	for (int i = 0; i < attributes->nitems; i++)
	{
		JsonbValue	at;

		if (attributes->items[i].at == NULL)
			continue;
		if (state == NULL)
			(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		push_key(&state, &attributes->items[i]);
		at = ps_value_number(attributes->items[i].at);
		(void) pushJsonbValue(&state, WJB_VALUE, &at);
	}
	return state == NULL ? NULL : (struct varlena *) JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
