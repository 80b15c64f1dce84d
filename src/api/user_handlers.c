/*
 * user_handlers.c
 *	  Registers users' functions for event types, handlers and upcasters. test_handler()
 *	  tries them on a profile and stores nothing.
 */
#include "postgres.h"

#include "api/caller.h"
#include "apply/user_function.h"
#include "core/document.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "settings.h"
#include "store/extension.h"
#include "store/function.h"
#include "store/handler_catalog.h"
#include "store/locks.h"
#include "store/rule_catalog.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* Raises unless the caller has the rights of the role that owned the function when it was registered. */
static void
check_registered(const PsRegistered *registered)
{
	if (!superuser() && !has_privs_of_role(GetUserId(), registered->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of function %s", registered->function),
				 errhint("The role that owned it when it was registered, or a superuser, removes it.")));
}

/*
 * Whether the owner of a function replaces the registration of that name: it names
 * another owner, or it is not confirmed and does not run.
 */
static bool
is_replaced(const PsRegistered *registered, const char *name, Oid owner)
{
	return strcmp(registered->function, name) == 0 && (registered->owner != owner || !registered->confirmed);
}

PS_FUNCTION(ps_register_handler);
static Datum
ps_register_handler_checked(PG_FUNCTION_ARGS)
{
	char	   *event_type = ps_get_name(fcinfo, 0, "event_type", PS_MAX_ID_BYTES);
	Oid			owner;
	char	   *name;
	bool		added;
	PsRegistered registered;

	ps_check_argument(!PG_ARGISNULL(1) && !PG_ARGISNULL(2), "function and priority must not be null");
	owner = ps_check_function(PS_HANDLER, PG_GETARG_OID(1));
	name = ps_function_name(PG_GETARG_OID(1));
	SPI_connect();
	if (ps_handlers_find(event_type, name, &registered) && is_replaced(&registered, name, owner))
		ps_handlers_remove(event_type, name);
	added = ps_handlers_add(event_type, name, owner, PG_GETARG_INT32(2));
	SPI_finish();
	if (!added)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("%s is already a handler of event type \"%s\"", name, event_type),
				 errhint("unregister_handler() removes it.")));
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_unregister_handler);
static Datum
ps_unregister_handler_checked(PG_FUNCTION_ARGS)
{
	char	   *event_type = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	PsRegistered registered;
	bool		found;

	SPI_connect();
	found = ps_handlers_find(event_type, name, &registered);
	/* without arguments it names no function that could be looked up */
	if (!found && strchr(name, '(') != NULL && OidIsValid(ps_function_find(name)))
	{
		name = ps_function_name(ps_function_find(name));
		found = ps_handlers_find(event_type, name, &registered);
	}
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%s is no handler of event type \"%s\"", name, event_type),
				 errhint("The view definitions lists them, with their schemas and argument types.")));
	check_registered(&registered);
	ps_handlers_remove(event_type, name);
	SPI_finish();
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_register_upcaster);
static Datum
ps_register_upcaster_checked(PG_FUNCTION_ARGS)
{
	char	   *event_type = ps_get_name(fcinfo, 0, "event_type", PS_MAX_ID_BYTES);
	char	   *name;
	Oid			owner;
	bool		added;
	PsRegistered registered;

	ps_check_argument(!PG_ARGISNULL(1) && PG_GETARG_INT32(1) >= 1 && PG_GETARG_INT32(1) < PS_MAX_SCHEMA_VERSION,
					  "from_version must be between 1 and 9999");
	ps_check_argument(!PG_ARGISNULL(2), "function must not be null");
	owner = ps_check_function(PS_UPCASTER, PG_GETARG_OID(2));
	name = ps_function_name(PG_GETARG_OID(2));
	SPI_connect();
	if (ps_upcasters_find(event_type, PG_GETARG_INT32(1), &registered) && is_replaced(&registered, name, owner))
		ps_upcasters_remove(event_type, PG_GETARG_INT32(1));
	added = ps_upcasters_add(event_type, PG_GETARG_INT32(1), name, owner);
	SPI_finish();
	if (!added)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("event type \"%s\" already has an upcaster from version %d", event_type, PG_GETARG_INT32(1)),
				 errhint("unregister_upcaster() removes it.")));
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_unregister_upcaster);
static Datum
ps_unregister_upcaster_checked(PG_FUNCTION_ARGS)
{
	char	   *event_type = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int			from_version = PG_GETARG_INT32(1);
	PsRegistered registered;

	SPI_connect();
	if (!ps_upcasters_find(event_type, from_version, &registered))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("event type \"%s\" has no upcaster from version %d", event_type, from_version),
				 errhint("The view definitions lists them.")));
	check_registered(&registered);
	ps_upcasters_remove(event_type, from_version);
	SPI_finish();
	PG_RETURN_VOID();
}

/* Raises the reasons why an event was rejected. */
static void
raise_reject(const PsReject *reject)
{
	StringInfoData errors;

	initStringInfo(&errors);
	for (int i = 0; i < reject->nerrors; i++)
		appendStringInfo(&errors, "%s%s", i > 0 ? "; " : "", reject->errors[i]);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", errors.data)));
}

/* Reads the event of test_handler(). The caller may leave out ids and time. */
static void
read_event(const char *event_type, Jsonb *given, const char *customer_id, const PsRules *rules, PsEvent *event)
{
	TimestampTz now = GetCurrentTimestamp();
	PsDecodeSettings settings = {now, ps_max_clock_skew_ms * INT64CONST(1000), ps_max_event_bytes,.rules = rules};
	PsMessage	message = {0};
	PsEvent		usual = {
		.event_id = "test",.customer_id = customer_id,.event_type = event_type,.timestamp = now
	};
	Datum		defaults = DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(ps_document_of_event(&usual)), CStringGetTextDatum("schemaVersion"));
	Jsonb	   *merged = DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, defaults, JsonbPGetDatum(given)));
	PsReject   *reject;

	message.value = JsonbToCString(NULL, &merged->root, VARSIZE(merged));
	message.value_len = strlen(message.value);
	reject = ps_event_decode(&message, &settings, event);
	if (reject == NULL && strcmp(event->event_type, event_type) != 0)
		reject = ps_reject_make("invalid", "eventType differs from event_type");
	if (reject != NULL)
		raise_reject(reject);
}

/* Says when nothing acts on events of a type: it may be a typo, and the result would not tell. */
static void
notice_unknown_type(const char *event_type, const PsRules *rules)
{
	if (!ps_handler_is_built_in(event_type) && ps_rules_find(rules, event_type) == NULL)
		ereport(NOTICE,
				(errmsg("events of type \"%s\" are only counted", event_type),
				 errhint("It has no handler, map, metric or upcaster: the view definitions lists those that there are.")));
}

/* Applies an event to a profile, and returns the result. */
static Jsonb *
try_event(const char *event_type, Jsonb *given_event, Jsonb *given_profile)
{
	const PsRules *rules = ps_rules_get();
	char	   *customer_id = "test";
	PsProfile	profile;
	PsEvent		event;
	PsReject   *reject;

	ps_profile_init(&profile);
	if (given_profile != NULL && ps_document_read(given_profile, &profile, &customer_id) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("profile is not a document of a profile"),
				 errhint("get_profile() returns one; members may be left out.")));
	notice_unknown_type(event_type, rules);
	read_event(event_type, given_event, customer_id, rules, &event);
	reject = ps_event_call_try(&profile, &event, rules);
	if (reject != NULL)
		raise_reject(reject);
	return ps_document_of_profile(&profile, event.customer_id);
}

PS_FUNCTION(ps_test_handler);
static Datum
ps_test_handler_checked(PG_FUNCTION_ARGS)
{
	char	   *event_type = ps_get_name(fcinfo, 0, "event_type", PS_MAX_ID_BYTES);
	Jsonb	   *result = NULL;

	ps_check_argument(!PG_ARGISNULL(1) && JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(1)), "event must be an object");
	ps_function_refuse_nested("test_handler()");
	(void) ps_rules_hold();
	PG_TRY();
	{
		result = try_event(event_type, PG_GETARG_JSONB_P(1), PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2));
	}
	PG_FINALLY();
	{
		ps_rules_release();
	}
	PG_END_TRY();
	PG_RETURN_JSONB_P(result);
}
