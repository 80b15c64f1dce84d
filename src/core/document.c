/*
 * document.c
 *	  Profiles and events as jsonb. Members are pushed in the order in which jsonb
 *	  keeps them, by length and then by bytes, so that it has nothing to sort.
 */
#include "postgres.h"

#include "core/attribute.h"
#include "core/document.h"
#include "core/iso8601.h"
#include "core/value.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

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

static JsonbValue
of_text(const text *content)
{
	return ps_value_string(VARDATA_ANY(content), VARSIZE_ANY_EXHDR(content));
}

static JsonbValue
of_number(int64 number)
{
	return ps_value_number(int64_to_numeric(number));
}

/* A time; null when it never was. */
static JsonbValue
of_time(TimestampTz at)
{
	return of_string(TIMESTAMP_NOT_FINITE(at) ? NULL : ps_format_timestamp(at));
}

static JsonbValue
of_jsonb(Jsonb *jsonb)
{
	JsonbValue	value;

	value.type = jbvBinary;
	value.val.binary.data = &jsonb->root;
	value.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	return value;
}

static void
push_event_counts(JsonbParseState **state, const PsProfile *profile)
{
	JsonbValue	key = ps_value_string("eventCounts", 11);

	(void) pushJsonbValue(state, WJB_KEY, &key);
	(void) pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < profile->nevent_counts; i++)
	{
		const PsEventCount *count = &profile->event_counts[i];
		JsonbValue	value = of_number(count->count);

		key = ps_value_string(count->event_type, count->len);
		(void) pushJsonbValue(state, WJB_KEY, &key);
		(void) pushJsonbValue(state, WJB_VALUE, &value);
	}
	(void) pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

Jsonb *
ps_document_of_profile(const PsProfile *profile, const char *customer_id)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	document_push(&state, "email", of_text(profile->email));
	document_push(&state, "phone", of_text(profile->phone));
	document_push(&state, "version", of_number(profile->version));
	document_push(&state, "lastName", of_text(profile->last_name));
	document_push(&state, "firstName", of_text(profile->first_name));
	document_push(&state, "attributes", of_jsonb((Jsonb *) ps_attributes_jsonb(profile)));
	document_push(&state, "customerId", of_string(customer_id));
	push_event_counts(&state, profile);
	document_push(&state, "accountCount", of_number(profile->account_count));
	document_push(&state, "totalBalance", ps_value_number(profile->total_balance));
	document_push(&state, "lastLoginDate", of_time(profile->last_login_at));
	document_push(&state, "lastUpdatedAt", of_time(profile->updated_at));
	document_push(&state, "preferredChannel", of_text(profile->preferred_channel));
	document_push(&state, "lastTransactionDate", of_time(profile->last_transaction_at));
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* A member of the payload; it was read from JSON, so that it is valid. */
static JsonbValue
of_field(const PsField *field)
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
			value = of_jsonb(DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(pnstrdup(field->text, field->len)))));
			break;
	}
	return value;
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
		document_push(&state, event->fields[i].name, of_field(&event->fields[i]));
	(void) pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	document_push(&state, "eventType", of_string(event->event_type));
	document_push(&state, "timestamp", of_time(event->timestamp));
	document_push(&state, "customerId", of_string(event->customer_id));
	document_push(&state, "schemaVersion", of_number(event->schema_version));
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
