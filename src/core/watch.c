/*
 * watch.c
 *	  Compares the watched values of a profile before and after a transaction.
 */
#include "postgres.h"

#include "core/attribute.h"
#include "core/metric.h"
#include "core/watch.h"
#include "utils/numeric.h"

const char *
ps_watch_refuses(const char *name)
{
	const PsProfileColumn *column = ps_profile_find_column(name);

	if (name[0] == '\0')
		return "must not be empty";
	if (column != NULL && !column->is_settable)
		return "is what every event may change";
	if (ps_metric_find(NULL, name) != NULL)
		return "is a metric, which changes by time alone";
	if (strcmp(name, "customer_id") == 0 || strcmp(name, "scored_at") == 0)
		return "is no value of a profile";
	return NULL;
}

int
ps_watch_find(const PsWatchedNames *names, const char *name)
{
	for (int i = 0; i < names->n; i++)
		if (strcmp(names->names[i].name, name) == 0)
			return i;
	return -1;
}

int
ps_watch_add(PsWatchedNames *names, const char *name)
{
	int			number = ps_watch_find(names, name);

	if (number >= 0)
		return number;
	if (names->n == 0)
		names->names = palloc(sizeof(PsWatchedName));
	else
		names->names = repalloc(names->names, (names->n + 1) * sizeof(PsWatchedName));
	names->names[names->n] = (PsWatchedName)
	{
		name, ps_profile_find_column(name), ps_profile_is_score(name)
	};
	return names->n++;
}

/* A watched value; null for a score, which no event changes. */
static JsonbValue
watch_value_of(const PsWatchedName *watched, PsProfile *profile)
{
	const char *field;
	const text *content;
	JsonbValue	null = {.type = jbvNull};

	if (watched->is_score)
		return null;
	if (watched->column == NULL)
		return ps_attribute_get(profile, watched->name, strlen(watched->name));
	field = (const char *) profile + watched->column->offset;
	switch (watched->column->kind)
	{
		case PS_PROFILE_TEXT:
			content = *(const text *const *) field;
			return ps_value_string(VARDATA_ANY(content), VARSIZE_ANY_EXHDR(content));
		case PS_PROFILE_NUMERIC:
			return ps_value_number(*(const Numeric *) field);
		case PS_PROFILE_INT8:
			return ps_value_number(int64_to_numeric(*(const int64 *) field));
		case PS_PROFILE_TIME:
		case PS_PROFILE_NULLABLE_TIME:
			return ps_value_number(int64_to_numeric(*(const TimestampTz *) field));
		case PS_PROFILE_ATTRIBUTES:
			return ps_value_jsonb((Jsonb *) ps_attributes_jsonb(profile));
		case PS_PROFILE_EVENT_COUNTS:
		case PS_PROFILE_EVENT_IDS:
		case PS_PROFILE_WINDOW_STATE:
		case PS_PROFILE_ATTRIBUTE_TIMES:
		case PS_PROFILE_SEGMENT_STATE:
			break;				/* ps_watch_refuses() does */
	}
	return null;
}

JsonbValue *
ps_watch_values(const PsWatchedNames *names, PsProfile *profile)
{
	JsonbValue *values = palloc(Max(names->n, 1) * sizeof(JsonbValue));

	for (int i = 0; i < names->n; i++)
		values[i] = watch_value_of(&names->names[i], profile);
	return values;
}

Bitmapset *
ps_watch_changes(const PsWatchedNames *names, const JsonbValue *before, PsProfile *profile)
{
	Bitmapset  *changes = NULL;

	for (int i = 0; i < names->n; i++)
	{
		JsonbValue	after = watch_value_of(&names->names[i], profile);

		if (!ps_value_equal(&before[i], &after))
			changes = bms_add_member(changes, i);
	}
	return changes;
}
