/*
 * worker.c
 *	  A background worker of a stream: its life, its loop, its recovery.
 *
 *	  Loop: interrupts, reload, stop conditions, look-ups, drain, apply, reset,
 *	  wait. While it waits it has no transaction and no snapshot. An error of the
 *	  infrastructure aborts the transaction, is shown in stat_streams, and after a
 *	  back-off the partitions are read again from their stored offsets.
 *
 *	  It exits with 0, and so is not restarted, when the stream is paused or gone;
 *	  when terminated it exits with 1, and the postmaster starts it again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "ingest/rebuild_worker.h"
#include "ingest/report.h"
#include "kafka/client.h"
#include "kafka/options.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "process/lease.h"
#include "settings.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "store/distributed.h"
#include "store/extension.h"
#include "store/lock_wait.h"
#include "store/owner.h"
#include "store/rebuild_schema.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MAX_BATCH_BYTES (8 * 1024 * 1024)
#define BATCH_MEMORY (8 * 1024 * 1024)
#define IDLE_MS 500
#define LOOKUP_INTERVAL_MS 30000
#define LOOKUP_RETRY_MS 2000
#define LOOKUP_TIMEOUT_MS 5000
#define LOCK_PATIENCE_MS 5000	/* beyond the back-off */

PGDLLEXPORT void profile_stream_worker_main(Datum arg);

/* Creates the client with the owner's options. */
static void
connect_kafka(PsWorker *worker)
{
	List	   *options;

	StartTransactionCommand();
	ps_check_may_run(GetUserId());
	MemoryContextSwitchTo(worker->context);
	options = ps_connection_options(worker->stream->server, worker->stream->bootstrap_servers,
									worker->stream->options, GetUserId());
	worker->connection = options;
	worker->lookup_interval_ms = Min(LOOKUP_INTERVAL_MS,
									 ps_kafka_option_ms(options, "topic.metadata.refresh.interval.ms", LOOKUP_INTERVAL_MS));
	worker->consumer = ps_consumer_create(options, worker->stream->topic, worker->stream->group_id);
	CommitTransactionCommand();
	ps_lookup_init(&worker->lookup, ps_consumer_handle(worker->consumer), worker->stream->topic);
	worker->reassign = true;
}

static void
set_client_error(PsWorker *worker, const char *error)
{
	if (worker->client_error != NULL)
		pfree(worker->client_error);
	worker->client_error = error ? MemoryContextStrdup(worker->context, error) : NULL;
}

/* Whether there is anything to read, by this worker or another. */
static bool
has_readable(const PsWorker *worker)
{
	for (int p = 0; p < worker->nleases; p++)
		if (worker->leases[p].readable)
			return true;
	return false;
}

/* Starts look-ups when due, and acts on their answers. */
static void
serve_lookup(PsWorker *worker)
{
	PsMoment	now = ps_clock_now();
	PsLookup   *lookup = &worker->lookup;

	if (ps_lookup_done(lookup))
	{
		ps_health_answered(worker);
		if (lookup->error[0] == '\0' && !worker->reassign)
			ps_topic_identity_note_answer(worker);
		if (lookup->error[0] == '\0' && worker->reassign && !worker->lookup_settled)
			worker->next_lookup = now;	/* asked while offsets still moved: ask again */
		else if (lookup->error[0] == '\0')
		{
			ps_assignment_update(worker);
			ps_failure_over(worker, PS_DOING_LOOKUP | PS_DOING_BROKER);
			set_client_error(worker, NULL);
			worker->next_lookup = worker->lookup_outdated ? now : ps_moment_plus(now, worker->lookup_interval_ms);
			worker->lookup_outdated = false;
			if (!has_readable(worker))
				ps_worker_set_state(worker, PS_STATE_OFFSET_LOST, "no partition can be read",
									"See the error of each partition in stat_partitions.", -1);
			else if (now >= worker->waits_until)
				ps_worker_set_running(worker);
		}
		else
		{
			worker->next_lookup = ps_moment_plus(now, LOOKUP_RETRY_MS);
			worker->failing |= PS_DOING_BROKER; /* whatever was fetched before, until it answers */
			if (lookup->topic_missing)
				ps_worker_set_state(worker, PS_STATE_RETRYING, psprintf("topic \"%s\" does not exist", worker->stream->topic),
									"Create the topic; the stream finds it by itself.", -1);
			else
				ps_worker_set_state(worker, PS_STATE_RETRYING, worker->client_error ? worker->client_error : lookup->error,
									PS_REACH_HINT, -1);
		}
	}
	if (!lookup->running && (worker->reassign || now >= worker->next_lookup) && now >= worker->next_attempt)
	{
		if (worker->reassign && now < worker->next_lookup && worker->state == PS_STATE_RETRYING)
			return;
		if (worker->reassign)
			ps_consumer_assign(worker->consumer, NULL, 0);	/* each answer would wait for a fetch that waits */
		worker->lookup_settled = worker->reassign;
		ps_topic_identity_note_asked(worker);
		(void) ps_lookup_start(lookup, ps_assignment_start_ms(worker->stream), LOOKUP_TIMEOUT_MS);
		worker->next_lookup = ps_moment_plus(now, LOOKUP_RETRY_MS);
	}
}

/* Whether there is memory for what is read. */
static bool
has_room(PsWorker *worker)
{
	if (ps_batch_is_blocked(worker))
		return false;
	/* reading goes on while more is due than a batch took, as long as there is memory for it */
	return ps_batch_next_due(worker) != PS_MOMENT_PAST ||
		ps_reorder_bytes(worker->reorder) + ps_deferred_bytes(worker->aside) < ps_reorder_memory_kb * INT64CONST(1024);
}

/* Drains and applies; returns whether more may be queued. */
static bool
serve_messages(PsWorker *worker)
{
	PsStream   *stream = worker->stream;
	PsIntake	intake = {0};

	ps_topic_identity_note_turn(worker);
	if (has_room(worker))
		ps_consumer_drain(worker->consumer, &intake, stream->batch_size, MAX_BATCH_BYTES,
						  ps_moment_plus(ps_clock_now(), stream->batch_wait_ms));
	if (intake.error != NULL)
	{
		/* librdkafka recovers by itself; a look-up says whether it has */
		set_client_error(worker, intake.error);
		worker->next_lookup = Min(worker->next_lookup,
								  ps_moment_plus(ps_clock_now(), 200));
	}
	if (intake.lost != NIL || !ps_topic_identity_verify(worker, &intake))
		worker->reassign = true;
	ps_topic_identity_suspect(worker, &intake);
	if (worker->reassign)
		return false;			/* what was drained is read again */
	if (intake.n > 0 || intake.ends != NIL || ps_batch_next_due(worker) <= ps_clock_now())
	{
		if (intake.n > 0)
			ps_health_begin(worker);
		ps_batch_apply(worker, &intake, false);
		if (worker->suspects == NIL)
			ps_failure_over(worker, PS_DOING_BATCH);
		worker->waits_until = 0;
		ps_report_complain(NULL);
		pgstat_report_stat(false);
		ps_worker_set_running(worker);
	}
	ps_unreadable_note(worker, &intake);
	return !intake.exhausted && !ps_batch_is_blocked(worker);
}

/* Time until something held is due. */
static long
due_ms(PsWorker *worker)
{
	PsMoment	due = ps_batch_next_due(worker);

	if (worker->reassign || due == PS_MOMENT_NEVER)
		return IDLE_MS;
	if (due == PS_MOMENT_PAST)
		return 0;				/* infinitely long ago is no number */
	return (long) Min(IDLE_MS, ps_clock_left(due));
}

static void
worker_wait_for_work(PsWorker *worker)
{
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;

	if (ps_clock_now() >= worker->next_attempt && !ps_batch_is_blocked(worker))
		events |= WL_SOCKET_READABLE;	/* otherwise nobody empties the pipe */
	pgstat_report_activity(STATE_IDLE, NULL);
	ps_report_turn(worker, false, !ps_batch_is_blocked(worker));
	ps_control_waiting(worker, true);
	(void) WaitLatchOrSocket(MyLatch, events, ps_consumer_wakeup_fd(worker->consumer),
							 worker->lookup.running ? 20 : Min(IDLE_MS, due_ms(worker)), PG_WAIT_EXTENSION);
	ps_control_waiting(worker, false);
	ResetLatch(MyLatch);
}

/* One turn of the loop. */
static void
worker_serve(PsWorker *worker)
{
	bool		more = false;

	ps_report_turn(worker, true, !ps_batch_is_blocked(worker));
	MemoryContextSwitchTo(worker->batch_context);
	worker->doing = PS_DOING_LOOKUP;
	serve_lookup(worker);
	ps_balance(worker);
	ps_failure_turn(worker);
	MemoryContextSwitchTo(worker->batch_context);
	if (ps_clock_now() >= worker->next_attempt)
	{
		worker->doing = PS_DOING_BATCH;
		more = serve_messages(worker);
		ps_health_check(worker);
		worker->doing = PS_DOING_RETENTION;
		ps_retention(worker);
	}
	worker->doing = PS_DOING_LOOKUP;
	ps_rebuild_follow(worker);
	MemoryContextSwitchTo(worker->context);
	MemoryContextReset(worker->batch_context);
	if (!more)
		worker_wait_for_work(worker);
}

/* Takes the error and ends what was under way; whether the log has not had this reason yet: then it has now. */
static ErrorData *
worker_take_error(PsWorker *worker, bool *news)
{
	ErrorData  *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(worker->batch_context);
	error = CopyErrorData();
	/* what a lock is waited for is told by who looks for its holder */
	*news = !worker->told && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE && ps_reason_is_new(&worker->logged, error->message);
	if (*news)
		EmitErrorReport();
	FlushErrorState();
	AbortOutOfAnyTransaction();
	RESUME_INTERRUPTS();
	return error;
}

/* Recovers from an ERROR: shows it, backs off, reads again from the stored offsets. */
static void
worker_recover(PsWorker *worker)
{
	bool		news;
	ErrorData  *error = worker_take_error(worker, &news);

	if (worker->told)
		ps_worker_read_again(worker, 0);
	else if (worker->doing == PS_DOING_RETENTION)
		ps_retention_failed(worker, error->message);
	else
	{
		bool		waits = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
		PsFault		fault = waits ? PS_FAULT_LOCK :
		error->sqlerrcode == ERRCODE_OUT_OF_MEMORY && ps_lock_budget_shrink(worker) ? PS_FAULT_SIZE : PS_FAULT_RANGE;
		int64		next_attempt_ms;

		ps_worker_read_again(worker, ps_failure_begin(worker, fault, &next_attempt_ms));
		worker->recheck = true;
		worker->waits_until = waits ? ps_moment_plus(worker->next_attempt, LOCK_PATIENCE_MS) : 0;
		PG_TRY();
		{
			ps_worker_report_error(worker, error, news, next_attempt_ms);
		}
		PG_CATCH();
		{
			worker->told = false;
			FlushErrorState();
			AbortOutOfAnyTransaction();
		}
		PG_END_TRY();
	}
	MemoryContextSwitchTo(worker->context);
	MemoryContextReset(worker->batch_context);
}

/* Connects, and makes what the worker needs. */
static void
worker_start(PsWorker *worker, int stream_id)
{
	PsProcess	process = ps_bgworker_process();

	if (process.rebuild)
	{
		ps_rebuild_schema_use();
		worker->next_report = PG_INT64_MAX; /* the group's offsets are the stream's */
	}
	if (!ps_bgworker_connect(process.database, process.owner))
		ps_bgworker_end_if_ownerless(process.owner, stream_id);
	SetConfigOption("lc_messages", "C", PGC_SUSET, PGC_S_OVERRIDE); /* dead letters in one language */
	SetConfigOption("synchronous_commit", ps_synchronous_commit ? "on" : "off", PGC_USERSET, PGC_S_SESSION);

	worker->stream_id = stream_id;
	worker->number = process.number;
	worker->context = AllocSetContextCreate(TopMemoryContext, "profile_stream worker", ALLOCSET_DEFAULT_SIZES);
	/* a large first block stays allocated over resets: no page faults a batch */
	worker->batch_context = AllocSetContextCreate(worker->context, "profile_stream batch",
												  BATCH_MEMORY, BATCH_MEMORY, BATCH_MEMORY);
	worker->apply_context = AllocSetContextCreate(worker->context, "profile_stream apply",
												  BATCH_MEMORY, BATCH_MEMORY, BATCH_MEMORY);
	worker->reorder = ps_reorder_create(worker->context);
	worker->aside = ps_deferred_create(worker->context);
	ps_control_init();
}

/* Becomes the stream's worker, reads the stream, and counts the attempt: in the loop, which recovers. */
static void
worker_begin(PsWorker *worker)
{
	const char *what = ps_rebuild_schema_used() ? "rebuild of stream" : "stream";
	char		name[NAMEDATALEN + 32];

	StartTransactionCommand();
	ps_lease_wait_start(worker->stream_id);
	ps_extension_check();
	ps_distributed_check();
	CommitTransactionCommand();
	if (!ps_lease_become_worker(worker->stream_id, worker->number))
	{
		ereport(LOG, (errmsg("%s %d has a worker %d already", what, worker->stream_id, worker->number)));
		proc_exit(0);
	}
	ps_lock_wait_bound_process();
	ps_control_begin(worker);
	snprintf(name, sizeof(name), "profile_stream%s: %s", ps_rebuild_schema_used() ? " rebuild" : "", worker->stream->name);
	SetConfigOption("application_name", name, PGC_USERSET, PGC_S_SESSION);
	ps_poison_begin(worker);
	ps_health_start(worker);
	ps_lock_budget_reset(worker);
	ps_failure_over(worker, PS_DOING_CONTROL);
	worker->begun = true;
	ereport(LOG, (errmsg("%s \"%s\" started worker %d", what, worker->stream->name, worker->number)));
}

/* A pause of the loop. */
static void
worker_rest(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, IDLE_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* One turn of the process, from its first steps on. */
static void
worker_turn(PsWorker *worker)
{
	bool		attempt = ps_clock_now() >= worker->next_attempt;

	worker->doing = PS_DOING_CONTROL;
	if (!worker->begun && !attempt)
	{
		worker_rest();
		return;
	}
	if (!worker->begun)
		worker_begin(worker);
	ps_control_serve(worker);
	if (attempt)
		ps_failure_over(worker, PS_DOING_CONTROL);
	if (worker->consumer != NULL)
		worker_serve(worker);
	else if (ps_clock_now() >= worker->next_attempt)
	{
		worker->doing = PS_DOING_CONNECT;
		connect_kafka(worker);
		ps_failure_over(worker, PS_DOING_CONNECT);
	}
	else
		worker_rest();
}

void
profile_stream_worker_main(Datum arg)
{
	PsWorker	worker = {0};

	worker_start(&worker, DatumGetInt32(arg));
	for (;;)
	{
		PG_TRY();
		{
			worker_turn(&worker);
		}
		PG_CATCH();
		{
			worker_recover(&worker);
		}
		PG_END_TRY();
	}
}
