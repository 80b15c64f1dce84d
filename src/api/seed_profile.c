/*
 * seed_profile.c
 *	  seed_profile() makes a profile what the document of another system says. It
 *	  applies an event and keeps it, because a rebuild has no other place to find it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/caller.h"
#include "apply/backfill_batch.h"
#include "compat.h"
#include "core/iso8601.h"
#include "core/seed.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "store/extension.h"
#include "store/function.h"
#include "store/secret.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

PS_FUNCTION(ps_seed_profile);
PS_FUNCTION(ps_event_time);

/* A member of an object; NULL when it has none. */
static const JsonbValue *
find_member(Jsonb *object, const char *name, JsonbValue *value)
{
	if (!JB_ROOT_IS_OBJECT(object))
		return NULL;
	return getKeyJsonValueFromContainer(&object->root, name, strlen(name), value);
}

/* Reads a time as the decoder of events does; false when it is none. */
static bool
seed_read_moment(const JsonbValue *value, TimestampTz *at)
{
	char	   *text;

	if (value == NULL || (value->type != jbvString && value->type != jbvNumeric))
		return false;
	if (value->type == jbvNumeric)
		text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));

	else
		text = pnstrdup(value->val.string.val, value->val.string.len);

	if (value->type == jbvNumeric || ps_timestamp_is_count(text, strlen(text)))
		return ps_timestamp_from_epoch(text, PS_MILLISECONDS, at) && *at >= PS_FIRST_COUNTED_TIME;
	return ps_timestamp_from_iso(text, strlen(text), at);
}

static Datum
ps_event_time_checked(PG_FUNCTION_ARGS)
{
	JsonbValue	value;
	TimestampTz at;

	if (!seed_read_moment(find_member(PG_GETARG_JSONB_P(0), "timestamp", &value), &at))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(at);
}

/* The time of a seed: as given, or when the other system changed the profile last, or now. */
static TimestampTz
time_of_seed(FunctionCallInfo fcinfo, Jsonb *document)
{
	JsonbValue	value;
	TimestampTz at;

	if (!PG_ARGISNULL(2))
		return PG_GETARG_TIMESTAMPTZ(2);
	if (seed_read_moment(find_member(document, "lastUpdatedAt", &value), &at))
		return at;
	return GetCurrentStatementStartTimestamp();
}

/* An id that nobody has used. */
static char *
make_event_id(void)
{
	Datum		uuid = DirectFunctionCall1(gen_random_uuid, (Datum) 0);

	return psprintf("seed-%s", DatumGetCString(DirectFunctionCall1(uuid_out, uuid)));
}

/* The event as JSON text. */
static char *
make_event(FunctionCallInfo fcinfo, const char *customer_id, Jsonb *document)
{
	char	   *event_id = PG_ARGISNULL(3) ? make_event_id() : text_to_cstring(PG_GETARG_TEXT_PP(3));
	TimestampTz at = time_of_seed(fcinfo, document);
	StringInfoData json;

	ps_check_argument(!TIMESTAMP_NOT_FINITE(at), "event_time must be finite");
	initStringInfo(&json);
	appendStringInfoString(&json, "{\"eventId\": ");
	escape_json(&json, event_id);
	appendStringInfoString(&json, ", \"customerId\": ");
	escape_json(&json, customer_id);
	appendStringInfo(&json, ", \"eventType\": \"" PS_SEEDED "\", \"timestamp\": \"%s\"", ps_format_timestamp(at));
	if (!PG_ARGISNULL(4))
	{
		appendStringInfoString(&json, ", \"source\": ");
		escape_json(&json, text_to_cstring(PG_GETARG_TEXT_PP(4)));
	}
	appendStringInfoString(&json, ", \"payload\": ");
	(void) JsonbToCString(&json, &document->root, VARSIZE(document));
	appendStringInfoChar(&json, '}');
	return json.data;
}

/* Raises the errors for which an event was not applied. */
static void
refuse_seed(const PsApplyItem *item)
{
	const PsReject *reject = ps_item_reason(item);
	StringInfoData errors;

	initStringInfo(&errors);
	for (int i = 0; reject != NULL && i < reject->nerrors; i++)
		appendStringInfo(&errors, "%s%s", i > 0 ? "; " : "", reject->errors[i]);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the profile cannot be seeded: %s", errors.data),
			 errhint("The document has the members of get_profile(), as {\"firstName\": \"Ada\", \"totalBalance\": 12.50}.")));
}

static Datum
ps_seed_profile_checked(PG_FUNCTION_ARGS)
{
	PsApplySettings settings = ps_apply_session_settings();
	char	   *customer_id = ps_get_name(fcinfo, 0, "customer_id", PS_MAX_ID_BYTES);
	PsApplyItem item;
	char	   *event;

	/* the payload of an event may be JSON's null */
	ps_check_argument(!PG_ARGISNULL(1) && JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(1)), "document must be an object");
	ps_function_refuse_nested("seed_profile()");
	event = make_event(fcinfo, customer_id, PG_GETARG_JSONB_P(1));
	settings.classify_only = true;
	settings.notify = PS_NOTIFY_CUSTOMER;
	settings.notify_channel = ps_secret_name(PS_UPDATES_CHANNEL);
	SPI_connect();
	ps_bootstrap_lock("seed_profile()");
	ps_backfill_item(&item, event);
	ps_backfill_apply_items(&item, 1, &settings);
	if (item.outcome == PS_DEAD || item.outcome == PS_LATE)
		refuse_seed(&item);
	if (item.outcome == PS_APPLIED)
		ps_seed_keep(customer_id, DirectFunctionCall1(jsonb_in, CStringGetDatum(event)));
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(ps_outcome_names[item.outcome]));
}
