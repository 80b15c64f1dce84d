/*
 * control.c
 *	  What a worker is told from outside: signals, a paused, dropped or altered
 *	  stream, changed settings and connection options.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "core/field_map.h"
#include "core/topic_format.h"
#include "ingest/batch.h"
#include "ingest/control.h"
#include "ingest/health.h"
#include "ingest/life.h"
#include "ingest/report.h"
#include "ingest/transaction.h"
#include "ingest/worker_state.h"
#include "kafka/client.h"
#include "kafka/options.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "process/bgworker.h"
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
#include "store/xact.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

/*
 * Stopping with held messages
 *
 * A SIGTERM ends a worker that holds no messages at its next interrupt check. A
 * worker that holds some finishes its transaction and then applies them, so that a
 * restart does not delay them by reorder_wait again. It must not take long: while it
 * works, a timer ends it at the second tick after the signal.
 */
#define TICK_MS 150
#define FLUSH_MS 400			/* no transaction begins later */
#define LAST_MS 600				/* none ends later */
#define NEW_PROCESS_MS 1000		/* until the postmaster starts a process that has ended */
#define FLUSH_LOCK_TIMEOUT "400ms"	/* a lock that another transaction holds must not use up all the time */

static volatile sig_atomic_t stop_requested = false;
static volatile sig_atomic_t ticked = false;	/* the timer ticked since then */
static volatile sig_atomic_t holding = false;	/* messages */
static volatile sig_atomic_t flushing = false;
static TimeoutId stop_timer;

/* SIGTERM. The postmaster sends it twice, to the process and to its group: the second one means nothing new. */
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

/*
 * SIGTERM and SIGINT. A user's function that signals its own process ends only itself,
 * not the worker. PostgreSQL's timers signal their own process too; they set their
 * indicator before.
 */
static void
handle_signal(int signal, siginfo_t * info, void *context)
{
	bool		by_timer = get_timeout_indicator(LOCK_TIMEOUT, false) || get_timeout_indicator(STATEMENT_TIMEOUT, false);

	if (info->si_pid == MyProcPid && !by_timer && ps_user_code_signalled_itself())
		return;
	if (signal == SIGTERM)
		handle_sigterm(signal);
	else
		StatementCancelHandler(signal);
}

/* Not pqsignal(): it does not tell who sent the signal. */
static void
set_signal_handler(int signal)
{
	struct sigaction action = {.sa_sigaction = handle_signal,.sa_flags = SA_RESTART | SA_SIGINFO};

	sigemptyset(&action.sa_mask);
	if (sigaction(signal, &action, NULL) != 0)
		elog(ERROR, "could not set a signal handler: %m");
}

/* The timer, in a signal handler: ends a process whose stop takes too long. */
static void
stop_now(void)
{
	if (flushing || (stop_requested && ticked))
		die(SIGTERM);
	ticked = stop_requested;
}

/* Starts or stops the timer. */
static void
set_ticking(bool ticking)
{
	if (!ticking)
		disable_timeout(stop_timer, false);
	else if (!get_timeout_active(stop_timer))
		enable_timeout_every(stop_timer, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), TICK_MS), TICK_MS);
}

/* Notes whether a stop has messages to apply first. */
static void
note_holding(PsWorker *worker)
{
	bool		now = ps_life_has_partitions(worker) && ps_waiting_held(worker->waiting) > 0;

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

/* Applies held messages before the worker ends, as long as there is time. The next process reads the rest again. */
static void
flush_held(PsWorker *worker)
{
	PsMoment	begin_until = ps_moment_plus(ps_clock_now(), FLUSH_MS);
	PsIntake	nothing = {0};

	if (!ps_life_has_partitions(worker) || ps_waiting_held(worker->waiting) == 0)
		return;
	SetConfigOption("lock_timeout", FLUSH_LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION);
	flushing = true;
	ps_life_stop(worker);
	disable_timeout(stop_timer, false);
	enable_timeout_after(stop_timer, LAST_MS);
	while (ps_waiting_held(worker->waiting) > 0 && ps_clock_now() < begin_until)
	{
		MemoryContextSwitchTo(worker->batch_context);
		ps_batch_apply(worker, &nothing, true);
		MemoryContextReset(worker->batch_context);
	}
	disable_timeout(stop_timer, false);
	flushing = false;
	ps_life_stopped(worker);
}

/* Ends the process; code 0: for good. The client is not closed while a thread uses it. */
static void
control_leave(PsWorker *worker, int code)
{
	if (worker->consumer != NULL && ps_report_end() && !worker->looking_up.lookup.running)
		ps_consumer_close(worker->consumer);
	proc_exit(code);
}

/* Reads the stream as its row is now, into a context of its own; NULL: it is gone. */
static PsStream *
control_read_stream(PsWorker *worker, int stream_id, MemoryContext *context)
{
	PsStream   *stream = NULL;

	ps_transaction_start();
	ps_lock_definitions(AccessShareLock);
	if (ps_invalidation_has_extension())
	{
		ps_spi_begin();
		*context = AllocSetContextCreate(CurTransactionContext, "profile_stream stream", ALLOCSET_SMALL_SIZES);
		MemoryContextSwitchTo(*context);
		stream = ps_stream_find(NULL, stream_id);
		if (stream != NULL)
		{
			PsFormatOptions formats = {stream->format, stream->field_map, stream->timestamp_unit};

			stream->format_map = ps_field_map_compile(stream->format, stream->field_map);
			stream->time_unit = ps_time_unit(stream->timestamp_unit);
			stream->nown_formats = ps_topic_formats_compile(stream->topic_formats, &formats, &stream->own_formats);
		}
		if (stream != NULL && ps_rebuild_schema_used())
			ps_rebuild_adjust(stream);
		/* another role owns it now: that role's workers are registered already */
		if (stream != NULL && !ps_invalidation_owns(stream))
			stream->enabled = false;
		ps_spi_end();
		MemoryContextSetParent(*context, worker->context);
	}
	CommitTransactionCommand();
	return stream;
}

/* From here on the worker goes by this reading of the stream. */
static void
adopt_stream(PsWorker *worker, PsStream *stream, MemoryContext context)
{
	if (worker->stream_context != NULL)
		MemoryContextDelete(worker->stream_context);
	worker->stream_context = context;
	worker->stream = stream;
	worker->stream_reads++;
}

/* Reads the stream again; ends the process when the worker is not wanted any more. */
static void
control_check_stream(PsWorker *worker, int stream_id)
{
	MemoryContext context = NULL;
	PsStream   *stream;
	bool		wanted;

	ps_stream_invalidated = false;
	stream = control_read_stream(worker, stream_id, &context);
	wanted = ps_worker_is_wanted(worker, stream);
	if (stream != NULL && !wanted)
	{
		ps_stream_invalidated = true;	/* read the stream again, should the flush fail */
		if (ps_life_has_started(worker))
			adopt_stream(worker, stream, context);	/* what is held is applied as the stream reads messages now */
		flush_held(worker);
	}
	if (!wanted)
		control_leave(worker, 0);
	if (!ps_life_has_started(worker))
	{
		worker->stream = stream;
		ps_worker_begin_state(worker);
	}
	if (ps_stream_is_foreign(stream))
	{
		PsState		state = ps_stream_foreign_state(stream);

		ps_worker_set_state(worker, state.state, state.error, state.hint);
		control_leave(worker, 0);
	}
	if (worker->consumer != NULL && strcmp(stream->group_id, worker->stream->group_id) != 0)
		control_leave(worker, 1);	/* the next process makes a client of the new group */
	ps_worker_compare_state(worker, stream);
	ps_options_invalidated = true;
	worker->looking_up.next = 0;
	ps_life_go_on(worker);		/* the change may have removed the reason for an error */
	worker->looking_up.ask_again = worker->looking_up.lookup.running;
	if (!ps_worker_reads_same(worker, stream))
		ps_life_look_up(worker);	/* until the answer it reads nothing */
	adopt_stream(worker, stream, context);
}

/* Ends the process when the client's options changed: the postmaster starts it again with the new ones. */
static void
control_check_options(PsWorker *worker)
{
	PsStream   *stream = worker->stream;
	bool		same;

	ps_options_invalidated = false;
	ps_transaction_start();
	ps_check_may_run(GetUserId());
	same = ps_kafka_options_equal(ps_connection_options(stream->server, stream->bootstrap_servers, stream->options, GetUserId()),
								  worker->connection);
	CommitTransactionCommand();
	if (same)
		return;
	ereport(LOG, (errmsg("stream \"%s\" restarts, because its connection options changed", stream->name)));
	control_leave(worker, 1);
}

/*
 * Ends the process when its client hears nothing from the brokers for too long: the postmaster starts it again, with a
 * new client. What is held is applied before, in its time.
 */
static void
control_check_client(PsWorker *worker)
{
	PsSilence  *silence = &worker->looking_up.silence;
	const char *error = "no broker answers";

	if (!ps_silence_is_too_long(silence) || holding)
		return;
	if (worker->shown.state == PS_STATE_RETRYING && worker->shown.error != NULL)
		error = pstrdup(worker->shown.error);
	ps_health_answered(worker); /* it is no failed start */
	ps_worker_set_restarting(worker, error, ps_kafka_connect_hint(error), NEW_PROCESS_MS);
	ereport(LOG, (errmsg("%s \"%s\" restarts, because no broker has answered for " INT64_FORMAT " seconds",
						 ps_rebuild_schema_used() ? "rebuild of stream" : "stream", worker->stream->name, silence->us / 1000000)));
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
		proc_exit(1);			/* as die() does for a worker that holds nothing */
	}
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		ps_stream_invalidated = true;	/* cluster_name may have changed, and with it whether the stream runs here */
		SetConfigOption("synchronous_commit", ps_synchronous_commit ? "on" : "off", PGC_USERSET, PGC_S_SESSION);
	}
	AcceptInvalidationMessages();
	if (ps_stream_invalidated || ps_options_invalidated)
		ps_bgworker_end_if_ownerless(GetSessionUserId(), worker->stream->stream_id);
	if (ps_extension_is_doubtful())
	{
		ps_transaction_start();
		ps_bgworker_end_unless_matched();
		CommitTransactionCommand();
	}
	if (ps_stream_invalidated)
		control_check_stream(worker, worker->stream_id);
	if (ps_options_invalidated && worker->consumer != NULL)
		control_check_options(worker);
	if (!ps_enabled)
	{
		flush_held(worker);
		ps_worker_set_state(worker, PS_STATE_DISABLED, NULL, "profile_stream.enabled is off.");
		control_leave(worker, 0);
	}
	if (flushing)
		proc_exit(1);			/* a flush failed, and the stream is wanted again: start anew */
	if (worker->consumer != NULL && worker->life != PS_LIFE_BACKING_OFF)
		control_check_client(worker);
}
