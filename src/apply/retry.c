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

#define CAREFUL_RUNS 20			/* that begin careful after a failure */
#define MAX_SLOW 3				/* calls of a transaction that may be ended for time */
#define MAX_SYSTEM_FAILURES 3	/* of one event, from which on they are its own */

static int	careful_runs = 0;
static const PsWork *running = NULL;	/* good while a function is called */

/* Whether functions are called for an entry. */
static bool
calls_functions(const PsEntry *entry)
{
	return entry->event != NULL && entry->refusal == NULL &&
		(entry->event->outdated || (entry->effect->rules != NULL && entry->effect->rules->nhandlers > 0));
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
 * Whether the system is to blame: no room, a deadlock, a server that stops. For a
 * worker that is so a few times, or an event with such an error would stop its stream.
 */
static bool
is_system_error(const PsWork *work, const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case MAKE_SQLSTATE('4', '0', '0', '0', '0'):	/* transaction rollback */
		case MAKE_SQLSTATE('5', '3', '0', '0', '0'):	/* insufficient resources */
		case MAKE_SQLSTATE('5', '7', '0', '0', '0'):	/* operator intervention */
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'):	/* system error */
		case MAKE_SQLSTATE('X', 'X', '0', '0', '0'):	/* internal error */
			break;
		default:
			if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
				return false;
	}
	return work->settings->stream_id == 0 || count_failures(work->entries[work->calling].event) < MAX_SYSTEM_FAILURES;
}

/* After an error was caught: notes that the entry failed, or goes on with the error when it is not the function's own. */
static void
note_failure(PsWork *work, PsOutside outside)
{
	const PsFunction *function;
	bool		own;
	ErrorData  *error = ps_call_catch(outside, &function, &own);
	PsReject   *failure;

	if (function == NULL || (!own && is_system_error(work, error)))
		ReThrowError(error);
	if (own && work->n > 1 && work->settings->stream_id != 0 && ++work->nslow >= MAX_SLOW)
		ereport(ERROR,
				(errcode(PS_ERRCODE_SLOW),
				 errmsg("functions of users take too long for several events: %s", error->message),
				 errhint("Each is a dead letter. unregister_handler() takes a handler away; profile_stream.handler_timeout limits a call.")));
	failure = ps_reject_make("handler", psprintf("Processing error: %s", error->message));
	failure->sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode));
	work->entries[work->calling].failure = failure;
	work->failed = true;
}

/* Applies an entry in a subtransaction of its own; the profile stays as it was when a function fails. */
static bool
apply_carefully(PsWork *work, PsProfile *profile, PsEntry *entry, PsChunk **sealed)
{
	Datum		values[PS_ROW_COLUMNS];
	bool		nulls[PS_ROW_COLUMNS];
	bool		is_new = profile->is_new;
	PsReject   *volatile reject = NULL;
	PsCall		call = {work->run, work->settings->rules};
	PsOutside	outside;

	/* there is no other copy of a profile that shares nothing with it */
	ps_profile_row_write(profile, values, nulls);
	outside = ps_call_begin_subtransaction();
	PG_TRY();
	{
		reject = ps_call_event(&call, profile, entry->event, entry->effect, sealed);
		ps_call_end_subtransaction(outside, reject == NULL);
	}
	PG_CATCH();
	{
		note_failure(work, outside);
	}
	PG_END_TRY();
	if (reject != NULL)
	{
		entry->failure = reject;
		work->failed = true;
	}
	if (entry->failure == NULL)
		return true;
	ps_profile_row_read(profile, values, nulls);
	profile->is_new = is_new;
	return false;
}

/* Applies an entry, in the way that this pass does. */
static bool
apply_entry(PsWork *work, PsCustomer *customer, int i, PsChunk **sealed)
{
	PsEntry    *entry = &work->entries[i];
	PsProfile  *profile = &customer->stored.profile;
	PsCall		call = {work->run, work->settings->rules};

	if (!work->calls || !calls_functions(entry))
	{
		*sealed = ps_handler_apply(profile, entry->event, entry->effect);
		ps_handler_finish(profile, entry->event);
		return true;
	}
	if (work->failed && !work->careful)
		return false;			/* it is to be done again anyway */
	work->calling = i;
	if (work->careful)
		return apply_carefully(work, profile, entry, sealed);
	entry->failure = ps_call_event(&call, profile, entry->event, entry->effect, sealed);
	work->failed = entry->failure != NULL;
	return !work->failed;
}

bool
ps_work_apply_event(PsWork *work, PsCustomer *customer, int i, PsChunk **sealed)
{
	int			first = work->careful ? work->repeat_of[i] : -1;

	if (first < 0)
		return apply_entry(work, customer, i, sealed);

	/* what repeats a failed one is tried now, or each would need a pass of its own; until one of them applies */
	if (work->entries[first].failure == NULL || work->repeat_of[first] >= 0)
		return false;
	if (!apply_entry(work, customer, i, sealed))
		return false;
	work->repeat_of[first] = i;
	return true;
}

/* Forgets what a pass that was rolled back has made of the customers. */
static void
reset_customers(PsWork *work)
{
	for (int i = 0; i < work->ncustomers; i++)
	{
		PsCustomer *customer = work->customers[i];

		customer->blocked = false;
		customer->napplied = 0;
		customer->event_types = NULL;
		customer->nevent_types = 0;
	}
}

/* One pass; whether it was the last one. */
static bool
try_steps(PsWork *work, void (*steps) (PsWork *))
{
	const PsWork *before = running;
	PsOutside	outside = ps_call_begin_subtransaction();

	work->failed = false;
	work->calling = -1;
	PG_TRY();
	{
		running = work;
		work->run = ps_function_begin();
		steps(work);
		if (!work->failed)
			ps_function_end(work->run);
		ps_call_end_subtransaction(outside, !work->failed);
	}
	PG_CATCH();
	{
		running = before;
		note_failure(work, outside);
	}
	PG_END_TRY();
	running = before;
	return !work->failed;
}

const PsEntry *
ps_apply_calling(void)
{
	return running != NULL && running->calling >= 0 ? &running->entries[running->calling] : NULL;
}

void
ps_work_run(PsWork *work, void (*steps) (PsWork *))
{
	for (int i = 0; i < work->n; i++)
	{
		work->entries[i].failure = NULL;
		work->calls |= calls_functions(&work->entries[i]);
	}
	if (!work->calls)
	{
		steps(work);
		return;
	}
	work->careful = careful_runs > 0 && work->n > 1;
	careful_runs = Max(0, careful_runs - 1);
	while (!try_steps(work, steps))
	{
		careful_runs = CAREFUL_RUNS;
		work->careful = work->n > 1;
		reset_customers(work);
	}
}
