/*
 * control.c
 *	  What a worker is told: paused, dropped, disabled, other settings, other
 *	  connection options. And what it says of itself in stat_streams.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "core/field_map.h"
#include "executor/spi.h"
#include "ingest/rebuild_worker.h"
#include "ingest/report.h"
#include "kafka/client.h"
#include "kafka/options.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "process/invalidation.h"
#include "process/lease.h"
#include "settings.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "store/extension.h"
#include "store/lock_wait.h"
#include "store/locks.h"
#include "store/owner.h"
#include "store/rebuild_catalog.h"
#include "store/rebuild_schema.h"
#include "store/user_code.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

/*
 * Stopping with held events.
 *
 * A SIGTERM ends a worker that holds nothing at its next interrupt check. One that
 * holds events goes on until the transaction under way is done and then applies
 * them; neither for long, because while it works a timer ends it at the second tick
 * after the signal.
 */
#define TICK_MS 150
#define FLUSH_MS 400			/* no transaction begins later */
#define LAST_MS 600				/* none ends later */
#define FLUSH_LOCK_TIMEOUT "400ms"	/* whoever holds a customer's lock does not delay us to the end */

static volatile sig_atomic_t stop_requested = false;
static volatile sig_atomic_t ticked = false;	/* since then */
static volatile sig_atomic_t holding = false;
static volatile sig_atomic_t flushing = false;
static TimeoutId stop_timer;

/* SIGTERM. The postmaster sends it twice, to the process and to its group: the second one is no reason to hurry. */
static void
handle_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	if (!holding && !stop_requested)
		die(postgres_signal_arg);
	stop_requested = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

/* SIGTERM and SIGINT: a function of a user that signals its own process ends itself and not the worker. */
static void
handle_signal(int signal, siginfo_t * info, void *context)
{
	if (info->si_pid == MyProcPid && ps_user_code_signalled_itself())
		return;
	if (signal == SIGTERM)
		handle_sigterm(signal);
	else
		StatementCancelHandler(signal);
}

/* pqsignal() does not tell whose signal it is. */
static void
set_signal_handler(int signal)
{
	struct sigaction action = {.sa_sigaction = handle_signal,.sa_flags = SA_RESTART | SA_SIGINFO};

	sigemptyset(&action.sa_mask);
	if (sigaction(signal, &action, NULL) != 0)
		elog(ERROR, "could not set a signal handler: %m");
}

/* The timer, in a signal handler: what was asked to stop took too long. */
static void
stop_now(void)
{
	if (flushing || (stop_requested && ticked))
		die(SIGTERM);
	ticked = stop_requested;
}

/* Lets the timer tick, or not. */
static void
set_ticking(bool ticking)
{
	if (!ticking)
		disable_timeout(stop_timer, false);
	else if (!get_timeout_active(stop_timer))
		enable_timeout_every(stop_timer, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), TICK_MS), TICK_MS);
}

/* Notes whether a stop has anything to apply first. */
static void
note_holding(PsWorker *worker)
{
	bool		now = worker->consumer != NULL && !worker->reassign && ps_reorder_held(worker->reorder) > 0;

	if (now)
		set_ticking(true);
	holding = now;
	if (!now)
		set_ticking(false);
}

void
ps_control_waiting(PsWorker *worker, bool waiting)
{
	if (waiting)
		note_holding(worker);
	if (holding)
		set_ticking(!waiting);
}

/* Applies what is held before the worker ends, as far as there is time: the rest is read again. */
static void
flush_held(PsWorker *worker)
{
	PsMoment	begin_until = ps_moment_plus(ps_clock_now(), FLUSH_MS);
	PsIntake	nothing = {0};

	if (worker->consumer == NULL || worker->reassign || ps_reorder_held(worker->reorder) == 0)
		return;
	SetConfigOption("lock_timeout", FLUSH_LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION);
	flushing = worker->flushing = true;
	disable_timeout(stop_timer, false);
	enable_timeout_after(stop_timer, LAST_MS);
	while (ps_reorder_held(worker->reorder) > 0 && ps_clock_now() < begin_until)
	{
		MemoryContextSwitchTo(worker->batch_context);
		ps_batch_apply(worker, &nothing, true);
		MemoryContextReset(worker->batch_context);
	}
	disable_timeout(stop_timer, false);
	flushing = worker->flushing = false;
}

/* Ends, with 0 for good; a look-up's thread keeps using the client until the process is gone. */
static void
control_leave(PsWorker *worker, int code)
{
	if (worker->consumer != NULL && ps_report_end() && !worker->lookup.running)
		ps_consumer_close(worker->consumer);
	proc_exit(code);
}

/* Reads the stream again; ends the process when it shall not run. */
static void
control_check_stream(PsWorker *worker, int stream_id)
{
	MemoryContext context = NULL;
	PsStream   *stream = NULL;
	bool		wanted;

	ps_stream_invalidated = false;
	StartTransactionCommand();
	ps_lock_definitions(AccessShareLock);
	if (ps_invalidation_has_extension())
	{
		SPI_connect();
		PushActiveSnapshot(GetTransactionSnapshot());
		context = AllocSetContextCreate(CurTransactionContext, "profile_stream stream", ALLOCSET_SMALL_SIZES);
		MemoryContextSwitchTo(context);
		stream = ps_stream_find(NULL, stream_id);
		if (stream != NULL)
		{
			stream->format_map = ps_field_map_compile(stream->format, stream->field_map);
			stream->time_unit = ps_time_unit(stream->timestamp_unit);
		}
		if (stream != NULL && ps_rebuild_schema_used())
			ps_rebuild_adjust(stream);
		/* who gave it to another role has registered that one's workers */
		if (stream != NULL && !ps_invalidation_owns(stream))
			stream->enabled = false;
		PopActiveSnapshot();
		SPI_finish();
		MemoryContextSetParent(context, worker->context);
	}
	CommitTransactionCommand();
	wanted = ps_worker_is_wanted(worker, stream);
	if (stream != NULL && !wanted)
	{
		ps_stream_invalidated = true;	/* it stays so when the flush fails */
		flush_held(worker);
	}
	if (!wanted)
		control_leave(worker, 0);
	if (!worker->begun)
	{
		worker->stream = stream;
		ps_worker_begin_state(worker);
	}
	if (ps_stream_is_foreign(stream))
	{
		PsState		state = ps_stream_foreign_state(stream);

		ps_worker_set_state(worker, state.state, state.error, state.hint, -1);
		control_leave(worker, 0);
	}
	if (worker->consumer != NULL && strcmp(stream->group_id, worker->stream->group_id) != 0)
		control_leave(worker, 1);	/* to begin anew with another client */
	ps_options_invalidated = true;
	worker->next_lookup = 0;
	worker->next_attempt = 0;	/* what it waited for may be there */
	worker->lookup_outdated = worker->lookup.running;
	if (worker->stream_context != NULL)
		MemoryContextDelete(worker->stream_context);
	worker->stream_context = context;
	worker->stream = stream;
}

void
ps_worker_set_running(PsWorker *worker)
{
	const char *held;

	if (ps_batch_is_blocked(worker))
	{
		ps_worker_set_held(worker, PS_STATE_RETRYING, "no more events can be held", ps_deferred_complaint(worker->aside, true),
						   "End the transaction that keeps it, or raise profile_stream.reorder_memory.");
		return;
	}
	held = ps_deferred_complaint(worker->aside, false);
	if ((worker->failing & ~PS_DOING_RETENTION) != 0)
		return;
	if (held != NULL)
		ps_worker_set_held(worker, PS_STATE_RUNNING, NULL, held, "End the transaction that keeps it; other customers go on.");
	else
		ps_worker_set_state(worker, PS_STATE_RUNNING, worker->retention_error, NULL, -1);
}

/* Ends the process when the options of the client are others now: the postmaster starts it again. */
static void
check_options(PsWorker *worker)
{
	PsStream   *stream = worker->stream;
	bool		same;

	ps_options_invalidated = false;
	StartTransactionCommand();
	ps_check_may_run(GetUserId());
	same = ps_kafka_options_equal(ps_connection_options(stream->server, stream->bootstrap_servers, stream->options, GetUserId()),
								  worker->connection);
	CommitTransactionCommand();
	if (same)
		return;
	ereport(LOG, (errmsg("stream \"%s\" restarts, because its connection options changed", stream->name)));
	control_leave(worker, 1);
}

void
ps_control_init(void)
{
	stop_timer = RegisterTimeout(USER_TIMEOUT, stop_now);
	set_signal_handler(SIGTERM);
	set_signal_handler(SIGINT);
	ps_invalidation_begin();
}

void
ps_control_begin(PsWorker *worker)
{
	control_check_stream(worker, worker->stream_id);
}

void
ps_control_serve(PsWorker *worker)
{
	CHECK_FOR_INTERRUPTS();
	note_holding(worker);
	if (stop_requested)
	{
		flush_held(worker);
		proc_exit(1);			/* as at a SIGTERM that finds nothing held */
	}
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		ps_stream_invalidated = true;	/* the cluster may have another name */
		SetConfigOption("synchronous_commit", ps_synchronous_commit ? "on" : "off", PGC_USERSET, PGC_S_SESSION);
	}
	AcceptInvalidationMessages();
	if (worker->recheck && ps_clock_now() >= worker->next_attempt)
	{
		worker->recheck = false;
		ps_stream_invalidated = ps_options_invalidated = true;
	}
	if (ps_stream_invalidated || ps_options_invalidated)
		ps_bgworker_end_if_ownerless(GetSessionUserId(), worker->stream->stream_id);
	if (ps_extension_is_doubtful() && ps_clock_now() >= worker->next_attempt)
	{
		StartTransactionCommand();
		ps_extension_check();
		CommitTransactionCommand();
	}
	if (ps_stream_invalidated)
		control_check_stream(worker, worker->stream_id);
	if (ps_options_invalidated && worker->consumer != NULL)
		check_options(worker);
	if (!ps_enabled)
	{
		flush_held(worker);
		ps_worker_set_state(worker, PS_STATE_DISABLED, NULL, "profile_stream.enabled is off.", -1);
		control_leave(worker, 0);
	}
	if (flushing)
		proc_exit(1);			/* a flush failed, and meanwhile the stream shall run again: begin anew */
}
