/*
 * retry.c
 *	  Runs the steps of apply again until no user's function fails. apply.c calls it
 *	  while it holds the customers' locks.
 *
 *	  A function that fails makes its event a dead letter and must change nothing
 *	  else. A subtransaction for each event would be slow, so the first pass runs all
 *	  steps in one subtransaction. When a function fails there, the pass is rolled
 *	  back and its event counts as rejected.
 *
 *	  From the second pass on each event that calls functions has a subtransaction of
 *	  its own. So one pass finds all functions that fail. The next transactions begin
 *	  like that too, because failures come in groups.
 */
#include "postgres.h"

#include "apply/apply_state.h"
#include "apply/system_failures.h"
#include "apply/user_function.h"
#include "core/keyed_hash.h"
#include "store/sqlstate.h"

#define SUBXACT_RUNS 20			/* transactions after a failure that use a subtransaction per event at once */
#define MAX_SLOW 3				/* calls that may run out of time in one transaction */

static int	subxact_runs = 0;
static const PsApplyState *running = NULL;	/* valid while a function runs */

/* Whether an item calls functions. */
static bool
calls_functions(const PsApplyItem *item)
{
	return item->event != NULL && item->rejected_by != PS_REJECTED_BY_HANDLER &&
		(item->event->outdated || (item->effect->rules != NULL && item->effect->rules->nhandlers > 0));
}

/*
 * Whether an error of a function is the system's: then the whole transaction fails
 * and is tried again. In a worker only an event's first failures count so, or an
 * event whose function always raises such an error would stop its stream.
 */
static bool
is_system_error(const PsApplyState *state, const ErrorData *error)
{
	static HTAB *known = NULL;
	const PsEvent *event = state->items[state->calling].event;

	if (!ps_sqlstate_is_passing(error->sqlerrcode))
		return false;
	return state->settings->stream_id == 0 ||
		ps_system_failure_may_pass(&known, event->customer_key, (int64) ps_keyed_hash(&ps_table_key, event->event_id, event->event_id_len), error->sqlerrcode);
}

/* Takes a caught error: rejects the item whose function raised it, or raises it again if it is no function's own. */
static void
retry_note_failure(PsApplyState *state, PsSubxact outside)
{
	const PsFunction *function;
	bool		own;
	ErrorData  *error = ps_subxact_catch(outside, &function, &own);
	PsReject   *failure;

	if (function == NULL || (!own && is_system_error(state, error)))
		ReThrowError(error);
	if (own && state->n > 1 && state->settings->stream_id != 0 && ++state->nslow >= MAX_SLOW)
		ereport(ERROR,
				(errcode(PS_ERRCODE_SLOW),
				 errmsg("users' functions take too long for several events: %s", error->message),
				 errhint("Each such event becomes a dead letter. Remove the handler with unregister_handler(), or raise profile_stream.handler_timeout.")));
	failure = ps_reject_make("handler", psprintf("Processing error: %s", error->message));
	failure->sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode));
	ps_item_reject(&state->items[state->calling], failure, PS_REJECTED_BY_FUNCTION);
	state->failed = true;
}

/* Applies an item in a subtransaction of its own; when a function fails, the profile stays as it was. */
static bool
apply_in_subxact(PsApplyState *state, PsProfile *profile, PsApplyItem *item, PsChunk **sealed)
{
	Datum		values[PS_ROW_COLUMNS];
	bool		nulls[PS_ROW_COLUMNS];
	bool		is_new = profile->is_new;
	const PsSeededScores *seeded = profile->seeded;
	PsReject   *volatile reject = NULL;
	PsEventCall call = {state->run, state->settings->rules, item->raised_effect};
	PsSubxact	outside;

	/* a written row is the only copy of a profile that shares no memory with it */
	ps_profile_row_write(profile, values, nulls);
	outside = ps_subxact_begin();
	PG_TRY();
	{
		reject = ps_event_call(&call, profile, item->event, item->effect, sealed);
		ps_subxact_end(outside, reject == NULL);
	}
	PG_CATCH();
	{
		retry_note_failure(state, outside);
	}
	PG_END_TRY();
	if (reject != NULL)
	{
		ps_item_reject(item, reject, PS_REJECTED_BY_FUNCTION);
		state->failed = true;
	}
	if (item->reject == NULL)
		return true;
	ps_profile_row_read(profile, values, nulls);
	profile->is_new = is_new;
	profile->seeded = seeded;
	return false;
}

/* Applies an item, with or without a subtransaction of its own. */
bool
ps_retry_apply_item(PsApplyState *state, PsCustomer *customer, int i, PsChunk **sealed)
{
	PsApplyItem *item = &state->items[i];
	PsProfile  *profile = &customer->stored->profile;
	PsEventCall call = {state->run, state->settings->rules, item->raised_effect};
	PsReject   *reject;

	if (!state->calls || !calls_functions(item))
	{
		*sealed = ps_handler_apply(profile, item->event, item->effect);
		ps_handler_finish(profile, item->event);
		return true;
	}
	if (state->failed && !state->per_event_subxact)
		return false;			/* this pass will be rolled back anyway */
	state->calling = i;
	if (state->per_event_subxact)
		return apply_in_subxact(state, profile, item, sealed);
	reject = ps_event_call(&call, profile, item->event, item->effect, sealed);
	ps_item_reject(item, reject, PS_REJECTED_BY_FUNCTION);
	state->failed = reject != NULL;
	return !state->failed;
}

/* Undoes in memory what a pass that was rolled back changed of the customers. */
static void
reset_customers(PsApplyState *state)
{
	memset(state->sealed, 0, state->n * sizeof(bool));
	for (int i = 0; i < state->ncustomers; i++)
	{
		PsCustomer *customer = state->customers[i];

		customer->blocked = false;
		customer->napplied = 0;
		customer->has_sealed = false;
		customer->sealed_now = NULL;
		customer->event_types = NULL;
		customer->nevent_types = 0;
		customer->last_event = NULL;
		customer->changed = NULL;
	}
}

/* Runs one pass; returns whether it was the last one. */
static bool
try_steps(PsApplyState *state, void (*steps) (PsApplyState *))
{
	const PsApplyState *before = running;
	PsSubxact	outside = ps_subxact_begin();

	state->failed = false;
	state->calling = -1;
	PG_TRY();
	{
		running = state;
		state->run = ps_function_begin();
		steps(state);
		if (!state->failed)
			ps_function_end(state->run);
		ps_subxact_end(outside, !state->failed);
	}
	PG_CATCH();
	{
		running = before;
		retry_note_failure(state, outside);
	}
	PG_END_TRY();
	running = before;
	return !state->failed;
}

const PsApplyItem *
ps_apply_calling(void)
{
	return running != NULL && running->calling >= 0 ? &running->items[running->calling] : NULL;
}

void
ps_retry_run(PsApplyState *state, void (*steps) (PsApplyState *))
{
	for (int i = 0; i < state->n; i++)
	{
		PsApplyItem *item = &state->items[i];

		if (item->rejected_by == PS_REJECTED_BY_FUNCTION)
		{
			item->reject = NULL;
			item->rejected_by = PS_NOT_REJECTED;
		}
		state->calls |= calls_functions(item);
	}
	if (!state->calls)
	{
		steps(state);
		return;
	}
	state->per_event_subxact = subxact_runs > 0 && state->n > 1;
	subxact_runs = Max(0, subxact_runs - 1);
	while (!try_steps(state, steps))
	{
		ereport(DEBUG1, (errmsg_internal("applying %d items again, because a user's function failed", state->n)));
		subxact_runs = SUBXACT_RUNS;
		state->per_event_subxact = state->n > 1;
		reset_customers(state);
	}
}
