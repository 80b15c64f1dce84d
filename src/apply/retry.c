/*
 * retry.c
 *	  Takes events through the steps of apply until no function of a user fails.
 *	  Called by apply.c while it holds the customers' locks.
 *
 *	  A function that fails makes its event a dead letter and changes nothing else,
 *	  without a subtransaction for each event: all is done within one, and when a
 *	  function fails that is rolled back and all is done again, as if the event had
 *	  been refused before. In *careful* mode each event that calls functions has a
 *	  subtransaction of its own as well, so that one pass finds all that fail; so it
 *	  is from the second pass on, and for a while in the transactions that follow.
 */
#include "postgres.h"

#include "apply/apply_state.h"
#include "apply/user_function.h"
#include "core/keyed_hash.h"
#include "store/sqlstate.h"

#define CAREFUL_RUNS 20			/* that begin careful after a failure */
#define MAX_SLOW 3				/* calls of a transaction that may be ended for time */
#define MAX_SYSTEM_FAILURES 3	/* of one event, from which on they are its own */

static int	careful_runs = 0;
static const PsApplyState *running = NULL;	/* good while a function is called */

/* Whether functions are called for an entry. */
static bool
calls_functions(const PsApplyItem *item)
{
	return item->event != NULL && item->refusal == NULL &&
		(item->event->outdated || (item->effect->rules != NULL && item->effect->rules->nhandlers > 0));
}

/* Counts failures of an event; how many it had so far, as far as no other one took its place. */
static int
count_failures(const PsEvent *event)
{
	static struct
	{
		int64		customer_key;
		uint32		event_hash;
		int			failures;
	}			known[256];
	uint32		hash = ps_table_hash(event->event_id, event->event_id_len);
	int			place = hash % lengthof(known);

	if (known[place].customer_key != event->customer_key || known[place].event_hash != hash)
		known[place].failures = 0;
	known[place].customer_key = event->customer_key;
	known[place].event_hash = hash;
	return ++known[place].failures;
}

/*
 * Whether an error of a function is the system's: then the whole transaction fails
 * and is tried again. In a worker an event's first failures count so, up to
 * MAX_SYSTEM_FAILURES. From then on they count as the event's own, or an event
 * whose function always raises such an error would stop its stream.
 */
static bool
is_system_error(const PsApplyState *state, const ErrorData *error)
{
	if (!ps_sqlstate_is_passing(error->sqlerrcode))
		return false;
	return state->settings->stream_id == 0 || count_failures(state->items[state->calling].event) < MAX_SYSTEM_FAILURES;
}

/* After an error was caught: notes that the entry failed, or goes on with the error when it is not the function's own. */
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
				 errmsg("functions of users take too long for several events: %s", error->message),
				 errhint("Each is a dead letter. unregister_handler() takes a handler away; profile_stream.handler_timeout limits a call.")));
	failure = ps_reject_make("handler", psprintf("Processing error: %s", error->message));
	failure->sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode));
	state->items[state->calling].failure = failure;
	state->failed = true;
}

/* Applies an entry in a subtransaction of its own; the profile stays as it was when a function fails. */
static bool
apply_carefully(PsApplyState *state, PsProfile *profile, PsApplyItem *item, PsChunk **sealed)
{
	Datum		values[PS_ROW_COLUMNS];
	bool		nulls[PS_ROW_COLUMNS];
	bool		is_new = profile->is_new;
	PsReject   *volatile reject = NULL;
	PsEventCall call = {state->run, state->settings->rules};
	PsSubxact	outside;

	/* there is no other copy of a profile that shares nothing with it */
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
		item->failure = reject;
		state->failed = true;
	}
	if (item->failure == NULL)
		return true;
	ps_profile_row_read(profile, values, nulls);
	profile->is_new = is_new;
	return false;
}

/* Applies an entry, in the way that this pass does. */
static bool
apply_entry(PsApplyState *state, PsCustomer *customer, int i, PsChunk **sealed)
{
	PsApplyItem *item = &state->items[i];
	PsProfile  *profile = &customer->stored.profile;
	PsEventCall call = {state->run, state->settings->rules};

	if (!state->calls || !calls_functions(item))
	{
		*sealed = ps_handler_apply(profile, item->event, item->effect);
		ps_handler_finish(profile, item->event);
		return true;
	}
	if (state->failed && !state->per_event_subxact)
		return false;			/* it is to be done again anyway */
	state->calling = i;
	if (state->per_event_subxact)
		return apply_carefully(state, profile, item, sealed);
	item->failure = ps_event_call(&call, profile, item->event, item->effect, sealed);
	state->failed = item->failure != NULL;
	return !state->failed;
}

bool
ps_retry_apply_event(PsApplyState *state, PsCustomer *customer, int i, PsChunk **sealed)
{
	int			first = state->per_event_subxact ? state->duplicate_of[i] : -1;

	if (first < 0)
		return apply_entry(state, customer, i, sealed);

	/* what repeats a failed one is tried now, or each would need a pass of its own; until one of them applies */
	if (state->items[first].failure == NULL || state->duplicate_of[first] >= 0)
		return false;
	if (!apply_entry(state, customer, i, sealed))
		return false;
	state->duplicate_of[first] = i;
	return true;
}

/* Forgets what a pass that was rolled back has made of the customers. */
static void
reset_customers(PsApplyState *state)
{
	for (int i = 0; i < state->ncustomers; i++)
	{
		PsCustomer *customer = state->customers[i];

		customer->blocked = false;
		customer->napplied = 0;
		customer->event_types = NULL;
		customer->nevent_types = 0;
	}
}

/* One pass; whether it was the last one. */
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
		state->items[i].failure = NULL;
		state->calls |= calls_functions(&state->items[i]);
	}
	if (!state->calls)
	{
		steps(state);
		return;
	}
	state->per_event_subxact = careful_runs > 0 && state->n > 1;
	careful_runs = Max(0, careful_runs - 1);
	while (!try_steps(state, steps))
	{
		careful_runs = CAREFUL_RUNS;
		state->per_event_subxact = state->n > 1;
		reset_customers(state);
	}
}
