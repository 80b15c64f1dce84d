/*
 * handlers.c
 *	  The built-in handlers. A new event type is one row of the table handlers,
 *	  with a function that reads its payload and one that applies it.
 */
#include "postgres.h"

#include "core/handlers.h"
#include "core/seed.h"
#include "core/value.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

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

/* customer.profile.updated: members that are absent or empty stay as they are. */
typedef struct Names
{
	const text *first_name;
	const text *last_name;
	const text *email;
	const text *phone;
} Names;

static PsReject *
read_names(const PsEvent *event, const void **content)
{
	Names	   *names = palloc(sizeof(Names));
	PsReject   *reject;

	*content = names;
	if ((reject = read_text(event, "firstName", &names->first_name)) == NULL &&
		(reject = read_text(event, "lastName", &names->last_name)) == NULL &&
		(reject = read_text(event, "email", &names->email)) == NULL)
		reject = read_text(event, "phone", &names->phone);
	return reject;
}

static PsChunk *
apply_names(PsProfile *profile, const PsEvent *event, const void *content)
{
	const Names *names = content;

	if (names->first_name)
		profile->first_name = names->first_name;
	if (names->last_name)
		profile->last_name = names->last_name;
	if (names->email)
		profile->email = names->email;
	if (names->phone)
		profile->phone = names->phone;
	return NULL;
}

/* transaction.completed */
static PsReject *
read_amount(const PsEvent *event, const void **content)
{
	Numeric		amount;
	PsReject   *reject = handlers_read_number(event, "amount", &amount);

	if (reject == NULL && amount == NULL)
		reject = ps_reject_make("handler", "Processing error: amount is missing");
	*content = amount;
	return reject;
}

static PsChunk *
handler_apply_transaction(PsProfile *profile, const PsEvent *event, const void *content)
{
	profile->last_transaction_at = Max(profile->last_transaction_at, event->timestamp);
	return ps_window_add(&profile->window, PS_SERIES_TRANSACTIONS, event->timestamp, (Numeric) unconstify(void *, content));
}

/* account.opened */
static PsReject *
read_initial_balance(const PsEvent *event, const void **content)
{
	Numeric		balance;
	PsReject   *reject = handlers_read_number(event, "initialBalance", &balance);

	*content = balance;
	return reject;
}

static PsChunk *
apply_account_opened(PsProfile *profile, const PsEvent *event, const void *content)
{
	profile->account_count++;
	if (content != NULL)
		profile->total_balance =
			DatumGetNumeric(DirectFunctionCall2(numeric_add, NumericGetDatum(profile->total_balance), PointerGetDatum(content)));
	return NULL;
}

/* account.closed */
static PsChunk *
apply_account_closed(PsProfile *profile, const PsEvent *event, const void *content)
{
	profile->account_count = Max(0, profile->account_count - 1);
	return NULL;
}

/* session.started */
static PsReject *
read_channel(const PsEvent *event, const void **content)
{
	const text *channel;
	PsReject   *reject = read_text(event, "channel", &channel);

	*content = channel;
	return reject;
}

static PsChunk *
apply_session(PsProfile *profile, const PsEvent *event, const void *content)
{
	profile->last_login_at = Max(profile->last_login_at, event->timestamp);
	if (content != NULL)
		profile->preferred_channel = content;
	return ps_window_add(&profile->window, PS_SERIES_LOGINS, event->timestamp, NULL);
}

/* support.ticket.created */
static PsChunk *
apply_support_ticket(PsProfile *profile, const PsEvent *event, const void *content)
{
	return ps_window_add(&profile->window, PS_SERIES_SUPPORT_TICKETS, event->timestamp, NULL);
}

static const PsHandler handlers[] = {
	{"customer.profile.updated", -1, read_names, apply_names},
	{"transaction.completed", PS_SERIES_TRANSACTIONS, read_amount, handler_apply_transaction},
	{"account.opened", -1, read_initial_balance, apply_account_opened},
	{"account.closed", -1, NULL, apply_account_closed},
	{"session.started", PS_SERIES_LOGINS, read_channel, apply_session},
	{"support.ticket.created", PS_SERIES_SUPPORT_TICKETS, NULL, apply_support_ticket},
	{PS_SEEDED, -1, ps_seed_read, ps_seed_apply},
};

static const PsHandler *
find_handler(const char *event_type)
{
	for (int i = 0; i < lengthof(handlers); i++)
		if (strcmp(event_type, handlers[i].event_type) == 0)
			return &handlers[i];
	return NULL;
}

bool
ps_handler_is_built_in(const char *event_type)
{
	return find_handler(event_type) != NULL;
}

/* Reads the values that attribute maps and feeds of the event's type take. */
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

/* Applies what read_by_rules() read. Puts the chunks that it sealed before those given, and returns the list. */
static PsChunk *
apply_by_rules(PsProfile *profile, const PsEvent *event, const PsEffect *effect, PsChunk *sealed)
{
	const PsEventRules *rules = effect->rules;

	for (int i = 0; i < rules->nmaps; i++)
		ps_attribute_map_apply(&rules->maps[i], &effect->mapped[i], profile, event->timestamp);
	for (int i = 0; i < rules->nfeeds; i++)
	{
		const PsFeed *feed = &rules->feeds[i];
		PsChunk    *chunk = NULL;

		if (effect->fed[i].is_there)
			chunk = (feed->is_lifetime ? ps_window_add_lifetime : ps_window_add) (&profile->window, feed->series, event->timestamp, effect->fed[i].value);
		if (chunk == NULL)
			continue;
		chunk->next = sealed;
		sealed = chunk;
	}
	return sealed;
}

PsReject *
ps_handler_read(const PsEvent *event, const PsRules *rules, PsEffect *effect)
{
	PsReject   *reject = NULL;

	memset(effect, 0, sizeof(PsEffect));
	effect->handler = find_handler(event->event_type);
	if (effect->handler != NULL && effect->handler->read != NULL)
		reject = effect->handler->read(event, &effect->content);
	if (reject == NULL && rules != NULL && (effect->rules = ps_rules_find(rules, event->event_type)) != NULL)
		reject = read_by_rules(event, effect);
	return reject;
}

PsChunk *
ps_handler_apply(PsProfile *profile, const PsEvent *event, const PsEffect *effect)
{
	PsChunk    *sealed = NULL;

	if (effect->handler != NULL)
		sealed = effect->handler->apply(profile, event, effect->content);
	if (effect->rules != NULL)
		sealed = apply_by_rules(profile, event, effect, sealed);
	return sealed;
}

bool
ps_effect_moves(const PsEffect *effect, uint32 series)
{
	if (effect->handler != NULL && effect->handler->series == (int) series)
		return true;
	for (int i = 0; effect->rules != NULL && i < effect->rules->nfeeds; i++)
		if (effect->rules->feeds[i].series == series && effect->fed[i].is_there)
			return true;
	return false;
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
