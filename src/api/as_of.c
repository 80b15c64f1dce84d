/*
 * as_of.c
 *	  What members of a document were at a moment.
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/as_of.h"
#include "api/metric_values.h"
#include "core/value.h"
#include "store/history_catalog.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PsAsOf
ps_as_of_moment(TimestampTz at)
{
	PsAsOf		as_of = {.is_named = true,.at = at};

	ps_check_moment(at);
	as_of.tracked = ps_history_tracked();
	/* by the clock, which is never behind that of the transactions whose changes are seen here */
	as_of.kept_from = GetCurrentTimestamp() - as_of.tracked->retention_us;
	return as_of;
}

PsAsOf
ps_as_of_argument(FunctionCallInfo fcinfo, int argument)
{
	PsAsOf		now = {.at = GetCurrentTransactionStartTimestamp()};

	return PG_ARGISNULL(argument) ? now : ps_as_of_moment(PG_GETARG_TIMESTAMPTZ(argument));
}

bool
ps_as_of_reaches(const PsAsOf *as_of, const PsTrackedName *name)
{
	return name != NULL && name->since <= as_of->at && as_of->kept_from <= as_of->at;
}

bool
ps_as_of_has(const PsAsOf *as_of, const char *column)
{
	return ps_as_of_reaches(as_of, ps_tracked_find(as_of->tracked, column));
}

/* Whether the history tells an attribute at the moment. */
static bool
as_of_has_attribute(const PsAsOf *as_of, const char *name, int len)
{
	return ps_as_of_has(as_of, PS_ALL_ATTRIBUTES) || ps_as_of_reaches(as_of, ps_tracked_find_attribute(as_of->tracked, name, len));
}

/* Whether it tells any attribute. */
static bool
has_some_attribute(const PsAsOf *as_of)
{
	for (int i = 0; i < as_of->tracked->nnames; i++)
	{
		const PsTrackedName *name = &as_of->tracked->names[i];

		if ((name->kind == PS_TRACKED_ATTRIBUTE || name->kind == PS_TRACKED_ATTRIBUTES) && ps_as_of_reaches(as_of, name))
			return true;
	}
	return false;
}

JsonbValue *
ps_as_of_old(const Jsonb *old, const char *key, int len)
{
	JsonbValue	name = ps_value_string(key, len);

	return old == NULL ? NULL : findJsonbValueFromContainer(unconstify(JsonbContainer *, &old->root), JB_FOBJECT, &name);
}

void
ps_names_add(PsNames *names, const char *name)
{
	if (names->n == names->capacity)
	{
		names->capacity = Max(32, 2 * names->capacity);
		if (names->names == NULL)
			names->names = palloc(names->capacity * sizeof(char *));
		else
			names->names = repalloc(names->names, names->capacity * sizeof(char *));
	}
	names->names[names->n++] = name;
}

static int
as_of_compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

Jsonb *
ps_names_jsonb(PsNames *names)
{
	JsonbParseState *state = NULL;

	if (names->n > 1)
		qsort(names->names, names->n, sizeof(char *), as_of_compare_names);
	(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < names->n; i++)
	{
		JsonbValue	name = ps_value_string(names->names[i], strlen(names->names[i]));

		(void) pushJsonbValue(&state, WJB_ELEM, &name);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

static void
push_attribute_pair(JsonbParseState **state, const char *name, int len, const JsonbValue *value)
{
	JsonbValue	key = ps_value_string(name, len);
	JsonbValue	copy = *value;

	if (copy.type == jbvNull)
		return;					/* there was none */
	(void) pushJsonbValue(state, WJB_KEY, &key);
	(void) pushJsonbValue(state, WJB_VALUE, &copy);
}

/* Pushes the attributes that are stored now, with their values of then. */
static void
push_stored(JsonbParseState **state, const PsAsOf *as_of, Jsonb *stored, const Jsonb *old, PsNames *current)
{
	JsonbIterator *it = JsonbIteratorInit(&stored->root);
	JsonbIteratorToken token;
	JsonbValue	name;
	JsonbValue	value;

	while ((token = JsonbIteratorNext(&it, &name, true)) != WJB_DONE)
	{
		char	   *key;
		JsonbValue *then = NULL;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		key = psprintf(PS_ATTRIBUTE_KEY "%.*s", name.val.string.len, name.val.string.val);
		if (as_of_has_attribute(as_of, name.val.string.val, name.val.string.len))
			then = ps_as_of_old(old, key, strlen(key));
		else
			ps_names_add(current, key);
		push_attribute_pair(state, name.val.string.val, name.val.string.len, then != NULL ? then : &value);
	}
}

/* Pushes the attributes that were there then, and are gone. */
static void
push_gone(JsonbParseState **state, const PsAsOf *as_of, Jsonb *stored, const Jsonb *old)
{
	JsonbIterator *it = JsonbIteratorInit(unconstify(JsonbContainer *, &old->root));
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;

	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		const int	prefix = strlen(PS_ATTRIBUTE_KEY);
		const char *name;
		int			len;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		name = key.val.string.val + prefix;
		len = key.val.string.len - prefix;
		if (len < 0 || memcmp(key.val.string.val, PS_ATTRIBUTE_KEY, prefix) != 0)
			continue;
		if (as_of_has_attribute(as_of, name, len) && ps_as_of_old(stored, name, len) == NULL)
			push_attribute_pair(state, name, len, &value);
	}
}

Jsonb *
ps_as_of_attributes(const PsAsOf *as_of, Jsonb *stored, const Jsonb *old, PsNames *current)
{
	JsonbParseState *state = NULL;

	if (!has_some_attribute(as_of) || !JB_ROOT_IS_OBJECT(stored))
	{
		ps_names_add(current, PS_ALL_ATTRIBUTES);
		return stored;
	}
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_stored(&state, as_of, stored, old, current);
	if (old != NULL)
		push_gone(&state, as_of, stored, old);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
