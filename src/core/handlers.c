/*
 * handlers.c
 *	  The built-in handlers. A new event type is an entry in event_types, a case
 *	  in ps_handler_read() and one in ps_handler_apply().
 */
#include "postgres.h"

#include "core/handlers.h"
#include "core/value.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

static const struct
{
	const char *event_type;
	PsHandler	handler;
}			event_types[] = {
	{"customer.profile.updated", PS_HANDLER_PROFILE_UPDATED},
	{"transaction.completed", PS_HANDLER_TRANSACTION},
	{"account.opened", PS_HANDLER_ACCOUNT_OPENED},
	{"account.closed", PS_HANDLER_ACCOUNT_CLOSED},
	{"session.started", PS_HANDLER_SESSION_STARTED},
	{"support.ticket.created", PS_HANDLER_SUPPORT_TICKET},
};

/* Reads a number member; sets *number to NULL when it is absent, null or empty. */
static PsReject *
handlers_read_number(const PsEvent *event, const char *name, Numeric *number)
{
	return ps_value_read_number(ps_event_field(event, name), name, number);
}

/* Reads a text member; sets *result to NULL when it is absent, null or empty. */
static PsReject *
read_text(const PsEvent *event, const char *name, const text **result)
{
	JsonbValue	value;
	PsReject   *reject = ps_value_read(ps_event_field(event, name), PS_VALUE_TEXT, name, &value);

	*result = NULL;
	if (reject == NULL)
		reject = ps_value_check_kept(&value, name);
	if (reject == NULL && value.type == jbvString)
		*result = cstring_to_text_with_len(value.val.string.val, value.val.string.len);
	return reject;
}

/* Reads what the rules of the event's type take. */
static PsReject *
read_by_rules(const PsEvent *event, PsEffect *effect)
{
	const PsEventRules *rules = effect->rules;
	PsReject   *reject = NULL;

	effect->mapped = palloc(rules->nmaps * sizeof(JsonbValue));
	for (int i = 0; i < rules->nmaps && reject == NULL; i++)
		reject = ps_attribute_map_read(&rules->maps[i], event, &effect->mapped[i]);
	effect->fed = palloc(rules->nfeeds * sizeof(PsFeedSample));
	for (int i = 0; i < rules->nfeeds && reject == NULL; i++)
		reject = ps_feed_read(&rules->feeds[i], event, &effect->fed[i]);
	return reject;
}

/* Changes the profile by what was read for the rules; returns the chunks that it sealed, before those given. */
static PsChunk *
apply_by_rules(PsProfile *profile, const PsEvent *event, const PsEffect *effect, PsChunk *sealed)
{
	const PsEventRules *rules = effect->rules;

	for (int i = 0; i < rules->nmaps; i++)
		ps_attribute_map_apply(&rules->maps[i], &effect->mapped[i], profile, event->timestamp);
	for (int i = 0; i < rules->nfeeds; i++)
	{
		PsChunk    *chunk = NULL;

		if (effect->fed[i].is_there)
			chunk = ps_window_add(&profile->window, rules->feeds[i].series, event->timestamp, effect->fed[i].value);
		if (chunk == NULL)
			continue;
		chunk->next = sealed;
		sealed = chunk;
	}
	return sealed;
}

/* Reads the members that the event's handler and rules need. */
PsReject *
ps_handler_read(const PsEvent *event, const PsRules *rules, PsEffect *effect)
{
	PsReject   *reject = NULL;

	memset(effect, 0, sizeof(PsEffect));
	for (int i = 0; i < lengthof(event_types); i++)
		if (strcmp(event->event_type, event_types[i].event_type) == 0)
			effect->handler = event_types[i].handler;

	switch (effect->handler)
	{
		case PS_HANDLER_PROFILE_UPDATED:
			if ((reject = read_text(event, "firstName", &effect->first_name)) == NULL &&
				(reject = read_text(event, "lastName", &effect->last_name)) == NULL &&
				(reject = read_text(event, "email", &effect->email)) == NULL)
				reject = read_text(event, "phone", &effect->phone);
			break;
		case PS_HANDLER_TRANSACTION:
			reject = handlers_read_number(event, "amount", &effect->amount);
			if (reject == NULL && effect->amount == NULL)
				reject = ps_reject_make("handler", "Processing error: amount is missing");
			break;
		case PS_HANDLER_ACCOUNT_OPENED:
			reject = handlers_read_number(event, "initialBalance", &effect->amount);
			break;
		case PS_HANDLER_SESSION_STARTED:
			reject = read_text(event, "channel", &effect->channel);
			break;
		case PS_HANDLER_ACCOUNT_CLOSED:
		case PS_HANDLER_SUPPORT_TICKET:
		case PS_HANDLER_COUNT_ONLY:
			break;
	}
	if (reject == NULL && rules != NULL && (effect->rules = ps_rules_find(rules, event->event_type)) != NULL)
		reject = read_by_rules(event, effect);
	return reject;
}

/* Changes the profile by one event. */
PsChunk *
ps_handler_apply(PsProfile *profile, const PsEvent *event, const PsEffect *effect)
{
	PsChunk    *sealed = NULL;

	switch (effect->handler)
	{
		case PS_HANDLER_PROFILE_UPDATED:
			if (effect->first_name)
				profile->first_name = effect->first_name;
			if (effect->last_name)
				profile->last_name = effect->last_name;
			if (effect->email)
				profile->email = effect->email;
			if (effect->phone)
				profile->phone = effect->phone;
			break;
		case PS_HANDLER_TRANSACTION:
			profile->last_transaction_at = event->timestamp;
			sealed = ps_window_add(&profile->window, PS_SERIES_TRANSACTIONS, event->timestamp, effect->amount);
			break;
		case PS_HANDLER_ACCOUNT_OPENED:
			profile->account_count++;
			if (effect->amount)
				profile->total_balance =
					DatumGetNumeric(DirectFunctionCall2(numeric_add,
														NumericGetDatum(profile->total_balance),
														NumericGetDatum(effect->amount)));
			break;
		case PS_HANDLER_ACCOUNT_CLOSED:
			profile->account_count = Max(0, profile->account_count - 1);
			break;
		case PS_HANDLER_SESSION_STARTED:
			profile->last_login_at = event->timestamp;
			sealed = ps_window_add(&profile->window, PS_SERIES_LOGINS, event->timestamp, NULL);
			if (effect->channel)
				profile->preferred_channel = effect->channel;
			break;
		case PS_HANDLER_SUPPORT_TICKET:
			sealed = ps_window_add(&profile->window, PS_SERIES_SUPPORT_TICKETS, event->timestamp, NULL);
			break;
		case PS_HANDLER_COUNT_ONLY:
			break;
	}

	if (effect->rules != NULL)
		sealed = apply_by_rules(profile, event, effect, sealed);
	return sealed;
}

void
ps_handler_finish(PsProfile *profile, const PsEvent *event)
{
	profile->version++;
	profile->updated_at = event->timestamp;
	profile->watermark = Max(profile->watermark, event->timestamp);
	profile->first_event_at = Min(profile->first_event_at, event->timestamp);
	ps_profile_count_event(profile, event->event_type, event->event_type_len);
}
