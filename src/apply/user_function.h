/*
 * user_function.h
 *	  Applies one event with the functions that users registered for its type, and
 *	  catches their errors.
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
	PsEffect   *raised_effect;	/* room for the effect of an event that upcasters convert; NULL: nobody asks */
} PsEventCall;

/*
 * Takes an error that was caught in a subtransaction, and rolls that back. Sets
 * *function to the function whose call raised it, or NULL. Sets *own if the error is
 * the function's own for sure: it was ended for its time.
 */
extern ErrorData *ps_subxact_catch(PsSubxact outside, const PsFunction **function, bool *own);

/*
 * Applies an event to a profile, with all functions. effect NULL: it was not read yet.
 * Returns why the event is rejected, or NULL.
 */
extern PsReject *ps_event_call(const PsEventCall *call, PsProfile *profile, const PsEvent *event, const PsEffect *effect, PsChunk **sealed);

/* The same, but only the profile changes: it rolls back what functions wrote. Raises their errors. */
extern PsReject *ps_event_call_try(PsProfile *profile, const PsEvent *event, const PsRules *rules);

#endif							/* PS_USER_FUNCTION_H */
