/*
 * history.c
 *	  Compares the tracked columns and attributes of a profile before and after an event.
 */
#include "postgres.h"

#include "compat.h"
#include "core/attribute.h"
#include "core/document.h"
#include "core/history.h"
#include "core/metric.h"
#include "core/value.h"

const char *
ps_tracked_resolve(const char *name, PsTrackedName *tracked)
{
	const PsProfileColumn *column = ps_profile_find_column(name);

	tracked->name = name;
	tracked->column = NULL;
	tracked->kind = ps_profile_is_score(name) ? PS_TRACKED_SCORE : PS_TRACKED_ATTRIBUTE;
	if (ps_metric_find(NULL, name) != NULL || strcmp(name, "customer_id") == 0 || strcmp(name, "scored_at") == 0)
		return "its value at any moment is known without a history";
	if (column == NULL)
		return NULL;
	if (column->kind == PS_PROFILE_ATTRIBUTES)
	{
		tracked->kind = PS_TRACKED_ATTRIBUTES;
		return NULL;
	}
	if (!column->is_settable)
		return "it may change with every event";
	tracked->kind = PS_TRACKED_COLUMN;
	tracked->column = column;
	return NULL;
}

void
ps_tracked_finish(PsTracked *tracked)
{
	for (int i = 0; i < tracked->nnames; i++)
	{
		PsTrackedKind kind = tracked->names[i].kind;

		tracked->scores |= kind == PS_TRACKED_SCORE;
		tracked->events |= kind != PS_TRACKED_SCORE;
		tracked->attributes |= kind == PS_TRACKED_ATTRIBUTE || kind == PS_TRACKED_ATTRIBUTES;
	}
}

const PsTrackedName *
ps_tracked_find(const PsTracked *tracked, const char *column)
{
	for (int i = 0; i < tracked->nnames; i++)
		if (tracked->names[i].kind != PS_TRACKED_ATTRIBUTE && strcmp(tracked->names[i].name, column) == 0)
			return &tracked->names[i];
	return NULL;
}

const PsTrackedName *
ps_tracked_find_attribute(const PsTracked *tracked, const char *name, int len)
{
	for (int i = 0; i < tracked->nnames; i++)
		if (tracked->names[i].kind == PS_TRACKED_ATTRIBUTE &&
			strlen(tracked->names[i].name) == len && memcmp(tracked->names[i].name, name, len) == 0)
			return &tracked->names[i];
	return NULL;
}

/* Whether the field of a column holds a pointer to its value. */
static bool
is_pointer(const PsProfileColumn *column)
{
	return column->kind == PS_PROFILE_TEXT || column->kind == PS_PROFILE_NUMERIC;
}

void
ps_history_note(const PsTracked *tracked, const PsProfile *profile, PsNoted *noted)
{
	for (int i = 0, n = 0; i < tracked->nnames; i++)
	{
		const PsProfileColumn *column = tracked->names[i].column;
		const char *field = (const char *) profile + (column == NULL ? 0 : column->offset);

		if (column == NULL)
			continue;
		if (is_pointer(column))
			noted->values[n++].pointer = *(const void *const *) field;
		else
			noted->values[n++].number = *(const int64 *) field;
	}
}

/* Whether a field has another value than the one that was noted. */
static bool
history_differs(const PsProfileColumn *column, const char *field, const char *noted)
{
	const void *new;
	const void *old;

	if (!is_pointer(column))
		return *(const int64 *) field != *(const int64 *) noted;
	new = *(const void *const *) field;
	old = *(const void *const *) noted;
	return new != old && (VARSIZE_ANY_EXHDR(new) != VARSIZE_ANY_EXHDR(old) ||
						  memcmp(VARDATA_ANY(new), VARDATA_ANY(old), VARSIZE_ANY_EXHDR(new)) != 0);
}

/* The old values of an event that are found so far. */
typedef struct Changes
{
	const PsTracked *tracked;
	bool		all_attributes;
	JsonbParseState *state;		/* NULL: none yet */
} Changes;

static void
push_change(Changes *changes, char *key, const JsonbValue *old)
{
	JsonbValue	name = ps_value_string(key, strlen(key));
	JsonbValue	value = *old;

	if (changes->state == NULL)
		(void) pushJsonbValue(&changes->state, WJB_BEGIN_OBJECT, NULL);
	(void) pushJsonbValue(&changes->state, WJB_KEY, &name);
	(void) pushJsonbValue(&changes->state, WJB_VALUE, &value);
}

/* Takes the old value of an attribute that has changed. */
static void
push_attribute(void *arg, const char *name, int len, const JsonbValue *old)
{
	Changes    *changes = arg;

	if (changes->all_attributes || ps_tracked_find_attribute(changes->tracked, name, len) != NULL)
		push_change(changes, psprintf(PS_ATTRIBUTE_KEY "%.*s", len, name), old);
}

Jsonb *
ps_history_changes(const PsTracked *tracked, PsProfile *profile, const PsNoted *noted)
{
	Changes		changes = {.tracked = tracked};

	for (int i = 0, n = 0; i < tracked->nnames; i++)
	{
		const PsProfileColumn *column = tracked->names[i].column;
		const char *old;

		if (column == NULL)
			continue;
		old = (const char *) &noted->values[n++];
		if (history_differs(column, (const char *) profile + column->offset, old))
		{
			JsonbValue	value = ps_document_value(column, old);

			push_change(&changes, unconstify(char *, column->name), &value);
		}
	}
	if (tracked->attributes)
	{
		changes.all_attributes = ps_tracked_find(tracked, PS_ALL_ATTRIBUTES) != NULL;
		ps_attribute_changes(profile, push_attribute, &changes);
	}
	if (changes.state == NULL)
		return NULL;
	return JsonbValueToJsonb(pushJsonbValue(&changes.state, WJB_END_OBJECT, NULL));
}
