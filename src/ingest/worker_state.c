/*
 * worker_state.c
 *	  What a worker says of itself: in stat_streams always, in stream_log and the
 *	  server's log once for each change and each new reason.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "ingest/rebuild_worker.h"
#include "ingest/report.h"
#include "store/lock_wait.h"
#include "store/rebuild_schema.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Whether nothing is wrong in that state. */
static bool
is_well(PsStreamState state)
{
	return state == PS_STATE_RUNNING || state == PS_STATE_READY;
}

/* Whether a state that was before it is worth being told as over. */
static bool
was_trouble(PsStreamState state)
{
	return !is_well(state) && state != PS_STATE_NONE && state != PS_STATE_STARTING && state != PS_STATE_PAUSED;
}

/* A rebuild that has caught up is ready, where a stream is running. */
static PsStreamState
spell_state(const PsWorker *worker, PsStreamState state)
{
	return worker->ready && state == PS_STATE_RUNNING ? PS_STATE_READY : state;
}

/* The line of the server's log. */
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
	char	   *error = worker->error;

	worker->state = state->state;
	worker->error = state->error ? MemoryContextStrdup(worker->context, state->error) : NULL;
	if (error != NULL)
		pfree(error);
	if (is_well(state->state) && state->error == NULL)
		worker->logged.n = 0;
}

static void
write_state(PsWorker *worker, const PsState *state, bool news, PsStateChange *change)
{
	MemoryContext context = CurrentMemoryContext;

	ps_worker_begin(worker);
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	ps_stream_change_state(worker->stream_id, state, news, change);
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
}

void
ps_worker_set_state(PsWorker *worker, PsStreamState state, const char *error, const char *hint, int64 next_attempt_ms)
{
	PsState		now = {spell_state(worker, state), error, hint, next_attempt_ms};
	PsStateChange change;
	bool		same = worker->state == now.state;
	bool		news;

	if (same && next_attempt_ms < 0 && strcmp(worker->error ? worker->error : "", error ? error : "") == 0)
		return;
	news = (error != NULL && ps_reason_is_new(&worker->logged, error)) || !same;
	write_state(worker, &now, news, &change);
	worker_state_remember(worker, &now);
	if (news)
		log_change(worker, &now, &change);
}

void
ps_worker_set_held(PsWorker *worker, PsStreamState state, const char *reason, const char *error, const char *hint)
{
	PsState		now = {spell_state(worker, state), error, hint, -1};
	PsStateChange change;

	if (worker->state != now.state)
		ps_worker_set_state(worker, state, reason, hint, -1);
	if (strcmp(worker->error ? worker->error : "", error) == 0)
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
		news = ps_reason_is_new(&worker->logged, error->message);
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
		(void) ps_reason_is_new(&worker->logged, now.error);
}
