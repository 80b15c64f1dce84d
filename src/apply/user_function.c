/*
 * user_function.c
 *	  Applies one event with the functions that users registered for its type. The
 *	  upcasters run before the built-in handler reads the payload, the users' handlers
 *	  after it has changed the profile.
 */
#include "postgres.h"

#include "apply/user_function.h"
#include "core/document.h"
#include "core/json.h"
#include "core/jsonb_size.h"
#include "store/function.h"
#include "utils/memutils.h"

ErrorData *
ps_subxact_catch(PsSubxact outside, const PsFunction **function, bool *own)
{
	ErrorData  *error;
	const char *ending;
	const char *title;

	*function = ps_function_abort(&ending);
	*own = ending != NULL;
	MemoryContextSwitchTo(outside.context);
	error = CopyErrorData();
	FlushErrorState();
	ps_subxact_end(outside, false);
	if (*function == NULL)
		return error;
	title = ps_function_title(*function);
	if (ending != NULL)
		error->message = psprintf("%s %s", title, ending);
	else if (strncmp(error->message, title, strlen(title)) != 0)
		error->message = psprintf("%s: %s", title, error->message);
	return error;
}

static PsReject *
user_function_reject(const PsFunction *function, const char *what)
{
	return ps_reject_make("handler", psprintf("Processing error: %s %s", ps_function_title(function), what));
}

/* Gives the event another payload; returns why it is rejected, or NULL. */
static PsReject *
set_payload(PsEvent *event, const PsFunction *function, Jsonb *payload)
{
	PsJsonReader reader = {.expanded = PS_JSON_ROOT};
	int64		max = ps_jsonb_made_bytes(event->payload_len);
	StringInfoData text;
	const char *wrong;

	if (payload == NULL || !JB_ROOT_IS_OBJECT(payload))
		return user_function_reject(function, "returned no object");
	if (ps_jsonb_is_longer(payload, max))
		return user_function_reject(function, psprintf("returned a payload of more than " INT64_FORMAT " bytes, which is what one of %d bytes may become", max, event->payload_len));
	initStringInfo(&text);
	(void) JsonbToCString(&text, &payload->root, VARSIZE(payload));
	wrong = ps_json_read(text.data, text.len, &reader);
	if (wrong != NULL)
		return user_function_reject(function, psprintf("returned a payload that is not valid: %s", wrong));
	event->payload = text.data;
	event->payload_len = text.len;

	event->fields = reader.fields;
	event->nfields = reader.nfields;
	event->schema_version++;
	return NULL;
}

/* Raises an event to the current version of its type. */
static PsReject *
user_function_upcast(PsFunctionRun *run, PsEvent *event, const PsRules *rules)
{
	const PsEventRules *of_type = ps_rules_find(rules, event->event_type);
	PsReject   *reject = NULL;

	for (int i = ps_rules_find_upcaster(of_type, event->schema_version); i < of_type->nupcasters && reject == NULL; i++)
	{
		PsFunction *function = of_type->upcasters[i].function;
		MemoryContext caller = MemoryContextSwitchTo(ps_function_memory(run));
		Jsonb	   *document = ps_document_of_event(event);

		MemoryContextSwitchTo(caller);
		reject = set_payload(event, function, ps_function_call(run, function, document, NULL));
		ps_function_forget(run);
	}
	event->outdated = false;
	return reject;
}

/* Lets the handlers change the profile, one after the other. */
static PsReject *
call_handlers(PsFunctionRun *run, PsProfile *profile, const PsEvent *event, const PsEventRules *rules)
{
	PsReject   *reject = NULL;
	MemoryContext caller = MemoryContextSwitchTo(ps_function_memory(run));
	Jsonb	   *event_document = ps_document_of_event(event);

	for (int i = 0; i < rules->nhandlers && reject == NULL; i++)
	{
		Jsonb	   *before;
		Jsonb	   *after;
		const char *wrong = NULL;

		MemoryContextSwitchTo(ps_function_memory(run));
		before = ps_document_of_profile(profile, event->customer_id);
		MemoryContextSwitchTo(caller);
		after = ps_function_call(run, rules->handlers[i], before, event_document);
		if (after != NULL)
			wrong = ps_document_take(profile, before, after);
		if (wrong != NULL)
			reject = user_function_reject(rules->handlers[i], wrong);
	}
	MemoryContextSwitchTo(caller);
	ps_function_forget(run);
	return reject;
}

PsReject *
ps_event_call(const PsEventCall *call, PsProfile *profile, const PsEvent *event, const PsEffect *effect, PsChunk **sealed)
{
	PsEvent		raised = *event;
	PsEffect	raised_effect;
	PsReject   *reject = NULL;

	if (effect == NULL)
	{
		if (event->outdated)
			reject = user_function_upcast(call->run, &raised, call->rules);
		if (reject == NULL)
			reject = ps_handler_read(&raised, call->rules, &raised_effect);
		if (reject != NULL)
			return reject;
		if (call->raised_effect != NULL)
			*call->raised_effect = raised_effect;
		effect = &raised_effect;
	}
	*sealed = ps_handler_apply(profile, &raised, effect);
	if (effect->rules != NULL && effect->rules->nhandlers > 0)
		reject = call_handlers(call->run, profile, &raised, effect->rules);
	if (reject == NULL)
		ps_handler_finish(profile, &raised);
	return reject;
}

PsReject *
ps_event_call_try(PsProfile *profile, const PsEvent *event, const PsRules *rules)
{
	PsSubxact	outside = ps_subxact_begin();
	PsReject   *volatile reject = NULL;
	PsChunk    *sealed;

	PG_TRY();
	{
		PsEventCall call = {ps_function_begin(), rules};

		reject = ps_event_call(&call, profile, event, NULL, &sealed);
		ps_subxact_end(outside, false);
	}
	PG_CATCH();
	{
		const PsFunction *function;
		bool		own;

		ReThrowError(ps_subxact_catch(outside, &function, &own));
	}
	PG_END_TRY();
	return reject;
}
