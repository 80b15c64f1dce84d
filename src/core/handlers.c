/*
 * handlers.c
 *	  The built-in handlers. A new event type is an entry in event_types, a case
 *	  in ps_handler_read() and one in ps_handler_apply().
 */
#include "postgres.h"

#include "common/jsonapi.h"
#include "core/handlers.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#define MAX_DIGITS 38

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

/* Whether a JSON number needs more than MAX_DIGITS digits, before or after the point or in all. */
static bool
number_too_long(const char *text)
{
	int			significant = 0;
	int			trailing_zeros = 0;
	int			scale = 0;
	bool		after_point = false;
	long		exponent = 0;

	for (const char *c = text; *c; c++)
	{
		if (*c == '.')
			after_point = true;
		else if (*c == 'e' || *c == 'E')
		{
			exponent = Max(-100000, Min(100000, strtol(c + 1, NULL, 10)));
			break;
		}
		else if (*c >= '0' && *c <= '9')
		{
			if (*c != '0' || significant > 0)
				significant++;
			trailing_zeros = *c == '0' && significant > 0 ? trailing_zeros + 1 : 0;
			if (after_point)
				scale++;
		}
	}
	if (significant == 0)
		return scale > MAX_DIGITS || exponent > MAX_DIGITS || exponent < -MAX_DIGITS;
	/* zeros at the end add nothing */
	significant -= trailing_zeros;
	exponent += trailing_zeros - scale;
	return significant > MAX_DIGITS || significant + exponent > MAX_DIGITS || exponent < -MAX_DIGITS;
}

/* Reads a number member; sets *number to NULL when it is absent, null or empty. */
static PsReject *
read_number(const PsEvent *event, const char *name, Numeric *number)
{
	const PsField *field = ps_event_field(event, name);

	*number = NULL;
	if (field == NULL || field->type == PS_JSON_NULL ||
		(field->type == PS_JSON_STRING && field->len == 0))
		return NULL;
	if ((field->type != PS_JSON_NUMBER && field->type != PS_JSON_STRING) ||
		!IsValidJsonNumber(field->text, field->len))
		return ps_reject_make("handler", psprintf("Processing error: %s is not a number", name));
	if (field->len > 400 || number_too_long(field->text))
		return ps_reject_make("handler", psprintf("Processing error: %s has more than %d digits", name, MAX_DIGITS));
	*number = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(field->text),
												  ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	return NULL;
}

/* Reads a text member; sets *result to NULL when it is absent, null or empty. */
static PsReject *
read_text(const PsEvent *event, const char *name, const text **result)
{
	const PsField *field = ps_event_field(event, name);

	*result = NULL;
	if (field == NULL || field->type == PS_JSON_NULL || field->len == 0)
		return NULL;
	if (field->type != PS_JSON_STRING && field->type != PS_JSON_NUMBER)
		return ps_reject_make("handler", psprintf("Processing error: %s is not text", name));
	*result = cstring_to_text_with_len(field->text, field->len);
	return NULL;
}

/* Reads the members that the event's handler needs. */
PsReject *
ps_handler_read(const PsEvent *event, PsEffect *effect)
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
			reject = read_number(event, "amount", &effect->amount);
			if (reject == NULL && effect->amount == NULL)
				reject = ps_reject_make("handler", "Processing error: amount is missing");
			break;
		case PS_HANDLER_ACCOUNT_OPENED:
			reject = read_number(event, "initialBalance", &effect->amount);
			break;
		case PS_HANDLER_SESSION_STARTED:
			reject = read_text(event, "channel", &effect->channel);
			break;
		case PS_HANDLER_ACCOUNT_CLOSED:
		case PS_HANDLER_SUPPORT_TICKET:
		case PS_HANDLER_COUNT_ONLY:
			break;
	}
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

	profile->version++;
	profile->updated_at = event->timestamp;
	profile->watermark = Max(profile->watermark, event->timestamp);
	ps_profile_count_event(profile, event->event_type, event->event_type_len, 1);
	return sealed;
}
