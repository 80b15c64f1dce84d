/*
 * document.c
 *	  Makes jsonb of profiles and events. Members are pushed in the order that jsonb
 *	  has, by length and then by bytes: sorting what is sorted costs least, and a
 *	  handler in SQL needs three documents for each event.
 */
#include "postgres.h"

#include "core/attribute.h"
#include "core/document.h"
#include "core/iso8601.h"
#include "core/jsonb_object.h"
#include "core/value.h"
#include "utils/builtins.h"

static void
document_push(JsonbParseState **state, const char *name, JsonbValue value)
{
	JsonbValue	key = ps_value_string(name, strlen(name));

	(void) pushJsonbValue(state, WJB_KEY, &key);
	(void) pushJsonbValue(state, WJB_VALUE, &value);
}

static JsonbValue
of_string(const char *text)
{
	JsonbValue	null = {.type = jbvNull};

	return text == NULL ? null : ps_value_string(text, strlen(text));
}

JsonbValue
ps_document_text(const PsProfileColumn *column, const char *content, int len)
{
	return len == 0 ? of_string(column->unknown) : ps_value_string(content, len);
}

static JsonbValue
of_text(const PsProfileColumn *column, const text *content)
{
	return ps_document_text(column, VARDATA_ANY(content), VARSIZE_ANY_EXHDR(content));
}

static JsonbValue
of_number(int64 number)
{
	return ps_value_number(int64_to_numeric(number));
}

/* A time; null for infinity, which means never. */
static JsonbValue
of_time(TimestampTz at)
{
	return of_string(TIMESTAMP_NOT_FINITE(at) ? NULL : ps_format_timestamp(at));
}

static void
push_event_counts(JsonbParseState **state, const PsProfile *profile, const char *name)
{
	JsonbValue	key = ps_value_string(name, strlen(name));

	(void) pushJsonbValue(state, WJB_KEY, &key);
	(void) pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < profile->nevent_counts; i++)
	{
		const PsEventCount *count = &profile->event_counts[i];
		JsonbValue	value = of_number(ps_profile_count(count));

		key = ps_value_string(count->event_type, count->len);
		(void) pushJsonbValue(state, WJB_KEY, &key);
		(void) pushJsonbValue(state, WJB_VALUE, &value);
	}
	(void) pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

JsonbValue
ps_document_value(const PsProfileColumn *column, const char *field)
{
	switch (column->kind)
	{
		case PS_PROFILE_TEXT:
			return of_text(column, *(const text *const *) field);
		case PS_PROFILE_NUMERIC:
			return ps_value_number(*(const Numeric *) field);
		case PS_PROFILE_INT8:
			return of_number(*(const int64 *) field);
		default:
			return of_time(*(const TimestampTz *) field);
	}
}

static void
push_column(JsonbParseState **state, const PsProfile *profile, const PsProfileColumn *column)
{
	JsonbValue	value;

	switch (column->kind)
	{
		case PS_PROFILE_TEXT:
		case PS_PROFILE_NUMERIC:
		case PS_PROFILE_INT8:
		case PS_PROFILE_TIME:
		case PS_PROFILE_NULLABLE_TIME:
			value = ps_document_value(column, (const char *) profile + column->offset);
			break;
		case PS_PROFILE_ATTRIBUTES:
			value = ps_value_jsonb((Jsonb *) ps_attributes_jsonb(profile));
			break;
		case PS_PROFILE_EVENT_COUNTS:
			push_event_counts(state, profile, column->member);
			return;
		case PS_PROFILE_EVENT_IDS:
		case PS_PROFILE_WINDOW_STATE:
		case PS_PROFILE_ATTRIBUTE_TIMES:
		case PS_PROFILE_SEGMENT_STATE:
			return;				/* no member of the document */
	}
	document_push(state, column->member, value);
}

/* customerId has no column in the list, because a profile in memory does not hold it */
static const PsProfileColumn customer_id_column = {.member = PS_CUSTOMER_ID_MEMBER};

static int
compare_members(const void *a, const void *b)
{
	const char *x = (*(const PsProfileColumn *const *) a)->member;
	const char *y = (*(const PsProfileColumn *const *) b)->member;

	return ps_jsonb_compare_keys(x, strlen(x), y, strlen(y));
}

/* The columns with a member, in jsonb's order; returns how many. */
static int
sort_members(const PsProfileColumn **sorted)
{
	int			n = 0;

	sorted[n++] = &customer_id_column;
	for (int i = 0; i < PS_PROFILE_NCOLUMNS; i++)
		if (ps_profile_columns[i].member != NULL)
			sorted[n++] = &ps_profile_columns[i];
	qsort(sorted, n, sizeof(PsProfileColumn *), compare_members);
	return n;
}

Jsonb *
ps_document_of_profile(const PsProfile *profile, const char *customer_id)
{
	static const PsProfileColumn *sorted[PS_PROFILE_NCOLUMNS + 1];
	static int	n = 0;
	JsonbParseState *state = NULL;

	if (n == 0)
		n = sort_members(sorted);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < n; i++)
	{
		if (sorted[i] == &customer_id_column)
			document_push(&state, PS_CUSTOMER_ID_MEMBER, of_string(customer_id));
		else
			push_column(&state, profile, sorted[i]);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

Jsonb *
ps_document_of_event(const PsEvent *event)
{
	JsonbParseState *state = NULL;
	JsonbValue	key = ps_value_string("payload", 7);

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	document_push(&state, "source", of_string(event->source));
	document_push(&state, "eventId", of_string(event->event_id));
	(void) pushJsonbValue(&state, WJB_KEY, &key);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < event->nfields; i++)
		document_push(&state, event->fields[i].name, ps_value_of_field(&event->fields[i]));
	(void) pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	document_push(&state, "eventType", of_string(event->event_type));
	document_push(&state, "timestamp", of_time(event->timestamp));
	document_push(&state, "customerId", of_string(event->customer_id));
	document_push(&state, "schemaVersion", of_number(event->schema_version));
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
