/*
 * handlers.h
 *	  What each event type does to a profile. An event is first read into its
 *	  effect, which may be refused; an effect always applies.
 */
#ifndef PS_HANDLERS_H
#define PS_HANDLERS_H

#include "core/event.h"
#include "core/event_rules.h"
#include "core/profile.h"

typedef enum PsHandler
{
	PS_HANDLER_COUNT_ONLY,
	PS_HANDLER_PROFILE_UPDATED,
	PS_HANDLER_TRANSACTION,
	PS_HANDLER_ACCOUNT_OPENED,
	PS_HANDLER_ACCOUNT_CLOSED,
	PS_HANDLER_SESSION_STARTED,
	PS_HANDLER_SUPPORT_TICKET
} PsHandler;

typedef struct PsEffect
{
	PsHandler	handler;
	Numeric		amount;			/* amount or initialBalance */
	const text *first_name;		/* NULL: leave as it is */
	const text *last_name;
	const text *email;
	const text *phone;
	const text *channel;
	const PsEventRules *rules;	/* of the event's type; NULL: none */
	JsonbValue *mapped;			/* value of each of its attribute maps */
	PsFeedSample *fed;			/* sample of each of its feeds */
} PsEffect;

/* Reads an event's effect and returns NULL, or returns why it has none. */
extern PsReject *ps_handler_read(const PsEvent *event, const PsRules *rules, PsEffect *effect);

/* Applies one event to a profile but for what counts it; returns the first of the chunks that it sealed, or NULL. */
extern PsChunk *ps_handler_apply(PsProfile *profile, const PsEvent *event, const PsEffect *effect);

/* Counts an event as applied: version, times and event_counts. */
extern void ps_handler_finish(PsProfile *profile, const PsEvent *event);

#endif							/* PS_HANDLERS_H */
