/*
 * worker_state.c
 *	  The state that a worker shows. stat_streams has the present one; stream_log and
 *	  the server's log get a line for each change of state and for each new error.
 */
#include "postgres.h"

#include "ingest/report.h"
#include "ingest/transaction.h"
#include "ingest/worker_state.h"
#include "process/bgworker.h"
#include "store/lock_wait.h"
#include "store/process_counters.h"
#include "store/rebuild_schema.h"
#include "store/xact.h"
#include "utils/memutils.h"

/* Whether the stream works in that state. */
static bool
is_well(PsStreamState state)
{
	return state == PS_STATE_RUNNING || state == PS_STATE_READY;
}

/* Whether the log says that a state is over. */
static bool
was_trouble(PsStreamState state)
{
	return !is_well(state) && state != PS_STATE_NONE && state != PS_STATE_STARTING && state != PS_STATE_PAUSED;
}

/* A rebuild that has caught up is ready; a stream would be running. */
static PsStreamState
spell_state(const PsWorker *worker, PsStreamState state)
{
	return worker->rebuild_ready && state == PS_STATE_RUNNING ? PS_STATE_READY : state;
}

/* Writes the line of the server's log. */
static void
log_change(const PsWorker *worker, const PsState *state, const PsStateChange *change)
{
	const char *what = ps_rebuild_schema_used() ? "rebuild of stream" : "stream";
	const char *name = worker->stream != NULL ? worker->stream->name : psprintf("%d", worker->stream_id);

	if (is_well(state->state) && was_trouble(change->from))
		ereport(LOG, (errmsg("%s \"%s\" is %s again, after %s", what, name, ps_state_names[state->state], ps_state_log_duration(change->lasted_ms)),
					  errdetail("It was %s.", ps_state_names[change->from])));
	else if (state->error == NULL)
		ereport(LOG, (errmsg("%s \"%s\" is %s", what, name, ps_state_names[state->state])));
	else
		ereport(LOG, (errmsg("%s \"%s\" is %s: %s", what, name, ps_state_names[state->state], state->error),
					  state->hint != NULL ? errhint("%s", state->hint) : 0));
}

/* Remembers what was written. */
static void
worker_state_remember(PsWorker *worker, const PsState *state)
{
	char	   *error = worker->shown.error;

	worker->shown.state = state->state;
	worker->shown.error = state->error ? MemoryContextStrdup(worker->context, state->error) : NULL;
	if (error != NULL)
		pfree(error);
	if (is_well(state->state) && state->error == NULL)
		worker->shown.logged.n = 0;
}

/* Adds to the counters in a transaction, and commits it. */
static void
store_counters(PsWorker *worker)
{
	if (worker->shown.errors > 0 || worker->shown.retries > 0)
		ps_process_count(worker->stream_id, ps_bgworker_process_name(worker->number), worker->shown.errors, worker->shown.retries);
	ps_commit();
	worker->shown.errors = worker->shown.retries = 0;
}

static void
write_counters(PsWorker *worker)
{
	MemoryContext context = CurrentMemoryContext;

	ps_worker_begin(worker);
	ps_spi_begin();
	store_counters(worker);
	MemoryContextSwitchTo(context);
}

static void
write_state(PsWorker *worker, const PsState *state, bool news, PsStateChange *change)
{
	MemoryContext context = CurrentMemoryContext;

	ps_worker_begin(worker);
	ps_spi_begin();
	ps_stream_change_state(worker->stream_id, state, news, change);
	store_counters(worker);
	MemoryContextSwitchTo(context);
}

void
ps_worker_set_state(PsWorker *worker, PsStreamState state, const char *error, const char *hint)
{
	PsState		now = {spell_state(worker, state), error, hint, -1};
	PsStateChange change;
	bool		same = worker->shown.state == now.state;
	bool		new_error;
	bool		news;

	if (same && strcmp(worker->shown.error ? worker->shown.error : "", error ? error : "") == 0)
	{
		if (worker->shown.retries > 0)
			write_counters(worker);
		return;
	}
	new_error = error != NULL && ps_reason_is_new(&worker->shown.logged, error);
	news = new_error || !same;
	worker->shown.errors += new_error;
	write_state(worker, &now, news, &change);
	worker_state_remember(worker, &now);
	if (news)
		log_change(worker, &now, &change);
}

void
ps_worker_set_restarting(PsWorker *worker, const char *error, const char *hint, int64 next_attempt_ms)
{
	PsState		now = {PS_STATE_RETRYING, error, hint, next_attempt_ms};
	PsStateChange change;

	ps_worker_set_state(worker, PS_STATE_RETRYING, error, hint);
	write_state(worker, &now, false, &change);
}

/*
 * Shows an error that names a customer in stat_streams alone, where it disappears
 * with the reason. The log and stream_log keep what they get, so they get reason.
 */
static void
set_deferred(PsWorker *worker, PsStreamState state, const char *reason, const char *error, const char *hint)
{
	PsState		now = {spell_state(worker, state), error, hint, -1};
	PsStateChange change;

	if (worker->shown.state != now.state)
		ps_worker_set_state(worker, state, reason, hint);
	if (strcmp(worker->shown.error ? worker->shown.error : "", error) == 0)
		return;
	write_state(worker, &now, false, &change);
	worker_state_remember(worker, &now);
}

void
ps_worker_report_error(PsWorker *worker, ErrorData *error, bool news, int64 next_attempt_ms)
{
	bool		waits = ps_lock_wait_explain(error);
	PsState		now = {spell_state(worker, waits ? PS_STATE_WAITING : PS_STATE_RETRYING), error->message, error->hint, next_attempt_ms};
	PsStateChange change;

	if (waits)
		news = ps_reason_is_new(&worker->shown.logged, error->message);
	worker->shown.errors += news;
	worker->shown.retries++;
	ps_report_complain(waits ? error->message : NULL);
	write_state(worker, &now, news, &change);
	worker_state_remember(worker, &now);
	if (waits && news)
		log_change(worker, &now, &change);
}

void
ps_worker_begin_state(PsWorker *worker)
{
	PsState		now = {worker->stream->state, worker->stream->error};

	if (now.state == PS_STATE_NONE || now.state == PS_STATE_STARTING)
		return;
	worker_state_remember(worker, &now);
	if (now.error != NULL)
		(void) ps_reason_is_new(&worker->shown.logged, now.error);
}

void
ps_worker_compare_state(PsWorker *worker, const PsStream *stream)
{
	if (stream->state == PS_STATE_STARTING)
		worker->shown.state = PS_STATE_STARTING;
}

void
ps_worker_set_running(PsWorker *worker)
{
	const char *deferred;

	if (worker->life == PS_LIFE_BLOCKED)
	{
		set_deferred(worker, PS_STATE_RETRYING, "deferred events fill the memory", ps_waiting_complaint(worker->waiting, true),
					 "End the transaction that holds the lock or row, or raise profile_stream.reorder_memory.");
		return;
	}
	deferred = ps_waiting_complaint(worker->waiting, false);
	if ((worker->failure.failing & ~PS_DOING_RETENTION) != 0)
		return;
	if (deferred != NULL)
		set_deferred(worker, PS_STATE_RUNNING, NULL, deferred, "End the transaction that holds the lock or row. The stream applies the events of other customers meanwhile.");
	else
		ps_worker_set_state(worker, PS_STATE_RUNNING, worker->retention.error, NULL);
}
