/*
 * user_function.h
 *	  One event with the functions that users registered for its type, and the
 *	  subtransactions that contain what they do.
 */
#ifndef PS_USER_FUNCTION_H
#define PS_USER_FUNCTION_H

#include "core/handlers.h"
#include "store/function.h"
#include "store/xact.h"

/* What functions are called with. */
typedef struct PsEventCall
{
	PsFunctionRun *run;
	const PsRules *rules;
} PsEventCall;

/*
 * Takes an error that was caught in a subtransaction, which it rolls back. *function
 * becomes the one whose call raised it, or NULL; an error that is its own for sure is said to be.
 */
extern ErrorData *ps_subxact_catch(PsSubxact outside, const PsFunction **function, bool *own);

/* Does all that an event does to a profile; effect NULL: it was not read yet. Returns why it is refused, or NULL. */
extern PsReject *ps_event_call(const PsEventCall *call, PsProfile *profile, const PsEvent *event, const PsEffect *effect, PsChunk **sealed);

/* The same without any effect that lasts but the profile; raises what functions raise. */
extern PsReject *ps_event_call_try(PsProfile *profile, const PsEvent *event, const PsRules *rules);

#endif							/* PS_USER_FUNCTION_H */
