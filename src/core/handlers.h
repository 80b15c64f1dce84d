/*
 * handlers.h
 *	  What each event type does to a profile, in two steps. Reading an event into
 *	  its effect may refuse the event; applying the effect never does. So all events
 *	  of a batch are read before the first profile is locked.
 */
#ifndef PS_HANDLERS_H
#define PS_HANDLERS_H

#include "core/event.h"
#include "core/event_rules.h"
#include "core/profile.h"

/* What a built-in handler does with events of its type: a row of the table in handlers.c. */
typedef struct PsHandler
{
	const char *event_type;
	int			series;			/* PsSeriesId to which each event adds a sample; -1: to none */

	/*
	 * Reads what apply needs from the payload into *content, or returns why the event is refused. NULL: nothing is
	 * read.
	 */
	PsReject   *(*read) (const PsEvent *event, const void **content);

	/* Changes the profile; returns a list of the chunks that it sealed, or NULL. */
	PsChunk    *(*apply) (PsProfile *profile, const PsEvent *event, const void *content);
} PsHandler;

typedef struct PsEffect
{
	const PsHandler *handler;	/* NULL: the event is only counted */
	const void *content;		/* from the handler's read function */
	const PsEventRules *rules;	/* of the event's type; NULL: none */
	JsonbValue *mapped;			/* value of each of its attribute maps */
	PsFeedSample *fed;			/* sample of each of its feeds */
} PsEffect;

/* Whether events of a type have a built-in handler. */
extern bool ps_handler_is_built_in(const char *event_type);

/* Reads the effect of an event, or returns why the event is refused. */
extern PsReject *ps_handler_read(const PsEvent *event, const PsRules *rules, PsEffect *effect);

/* Applies one event to a profile, all but version, times and counters. Returns a list of the chunks that it sealed. */
extern PsChunk *ps_handler_apply(PsProfile *profile, const PsEvent *event, const PsEffect *effect);

/* Whether the event adds a sample to a series. */
extern bool ps_effect_moves(const PsEffect *effect, uint32 series);

/* Counts an event as applied: version, times and event_counts. */
extern void ps_handler_finish(PsProfile *profile, const PsEvent *event);

#endif							/* PS_HANDLERS_H */
