/*
 * worker.c
 *	  The main loop of a stream's background worker, and its recovery from errors.
 *
 *	  Each turn handles signals and changed settings, and looks the topic up when that
 *	  is due. Then it reads a batch, applies it, and waits if there is nothing more to
 *	  read. While it waits it has no transaction and no snapshot.
 *
 *	  An error aborts the transaction and is shown in stat_streams. After a back-off
 *	  the partitions are read again from their stored offsets, so nothing is lost.
 *
 *	  The worker exits with 0 when the stream is paused or gone: the postmaster does
 *	  not start it again. When it is terminated it exits with 1 and is started again.
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "access/xact.h"
#include "ingest/align.h"
#include "ingest/assignment.h"
#include "ingest/balance.h"
#include "ingest/batch.h"
#include "ingest/control.h"
#include "ingest/failure.h"
#include "ingest/flush.h"
#include "ingest/health.h"
#include "ingest/lag.h"
#include "ingest/life.h"
#include "ingest/lock_budget.h"
#include "ingest/order_report.h"
#include "ingest/poison.h"
#include "ingest/progress.h"
#include "ingest/rebuild_bootstrap.h"
#include "ingest/rebuild_worker.h"
#include "ingest/report.h"
#include "ingest/retention.h"
#include "ingest/shard_progress.h"
#include "ingest/shard_topic.h"
#include "ingest/topic_identity.h"
#include "ingest/topics.h"
#include "ingest/unreadable.h"
#include "ingest/worker_state.h"
#include "kafka/client.h"
#include "kafka/options.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "process/bgworker.h"
#include "process/invalidation.h"
#include "process/lease.h"
#include "process/meter.h"
#include "process/wait_event.h"
#include "settings.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "store/lock_wait.h"
#include "store/owner.h"
#include "store/rebuild_schema.h"
#include "store/shards.h"
#include "store/xact.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MAX_BATCH_BYTES (8 * 1024 * 1024)
#define BATCH_MEMORY (8 * 1024 * 1024)
#define KEPT_MEMORY (256 * 1024 * 1024)
#define IDLE_MS 500
#define LOOKUP_RETRY_MS 2000
#define LOOKUP_TIMEOUT_MS 5000
#define LATE_MS 500				/* a wait that ends so much later means that the process was frozen */
#define LOOKUP_POLL_MS 20		/* while a thread asks the broker */
#define LOCK_SHOWN_MS 5000		/* after the back-off: "waiting" is shown on, unless a batch is applied */
#define CLIENT_ERROR_LOOKUP_MS 200	/* after an error of the client, until the broker is asked */

PGDLLEXPORT void profile_stream_worker_main(Datum arg);

/*
 * Keeps memory that a batch frees. Each batch takes about as much again, and the
 * system would clear each page of it anew.
 */
static void
keep_memory(void)
{
#ifdef __GLIBC__
	(void) mallopt(M_MMAP_THRESHOLD, 2 * BATCH_MEMORY);
	(void) mallopt(M_TRIM_THRESHOLD, KEPT_MEMORY);
#endif
}

/* Creates the client with the owner's options. */
static void
connect_kafka(PsWorker *worker)
{
	List	   *options;

	ps_transaction_start();
	ps_check_may_run(GetUserId());
	MemoryContextSwitchTo(worker->context);
	options = ps_connection_options(worker->stream->server, worker->stream->bootstrap_servers,
									worker->stream->options, GetUserId());
	worker->connection = options;
	worker->looking_up.interval_ms = ps_kafka_interval_ms(options);
	ps_silence_init(&worker->looking_up.silence, options);
	worker->consumer = ps_consumer_create(options, worker->stream->group_id);
	CommitTransactionCommand();
	ps_lookup_init(&worker->looking_up.lookup, ps_consumer_handle(worker->consumer));
	worker->topics_of = 0;
	ps_life_connected(worker);
}

/* Notes an error of the client, or forgets it. */
static void
set_client_error(PsWorker *worker, const char *error)
{
	if (worker->shown.client_error != NULL)
		pfree(worker->shown.client_error);
	worker->shown.client_error = error ? MemoryContextStrdup(worker->context, error) : NULL;
}

/* Whether any partition can be read, by this worker or another. */
static bool
has_readable(const PsWorker *worker)
{
	for (int p = 0; p < worker->balance.nleases; p++)
		if (worker->balance.leases[p].readable)
			return true;
	return false;
}

/* The broker gave an answer: assigns partitions by it, or notes what changed in the topic. */
static void
take_answer(PsWorker *worker)
{
	PsMoment	now = ps_clock_now();

	ps_silence_end(&worker->looking_up.silence, true);
	if (ps_life_has_partitions(worker))
		ps_topic_identity_note_answer(worker);
	/* while it looks up, only an answer counts that it asked for after offsets and leases had stopped to move */
	if (!ps_life_has_partitions(worker) &&
		!(worker->life == PS_LIFE_LOOKING_UP && worker->looking_up.asked_in == PS_LIFE_LOOKING_UP))
	{
		worker->looking_up.next = now;
		return;
	}
	ps_assignment_update(worker);
	ps_failure_over(worker, PS_DOING_LOOKUP | PS_DOING_BROKER);
	set_client_error(worker, NULL);
	worker->looking_up.next = worker->looking_up.ask_again ? now :
		ps_moment_plus(now, ps_topics_answered(worker) ? worker->looking_up.interval_ms : LOOKUP_RETRY_MS);
	worker->looking_up.ask_again = false;
	if (!has_readable(worker) && !ps_shard_progress_is_elsewhere(worker))
		ps_worker_set_state(worker, PS_STATE_OFFSET_LOST, "no partition can be read",
							"See the error of each partition in stat_partitions.");
	else if (now >= worker->failure.lock_wait_until)
		ps_worker_set_running(worker);
}

/* Whether no broker answered. While partitions are read, one that has no leader is no reason for a new client. */
static bool
is_unanswered(const PsWorker *worker)
{
	const PsLookup *lookup = &worker->looking_up.lookup;

	return lookup->no_metadata || (lookup->no_offsets && !ps_life_has_partitions(worker));
}

/* The broker did not answer, or has no such topic. */
static void
take_no_answer(PsWorker *worker)
{
	const PsLookup *lookup = &worker->looking_up.lookup;

	if (!is_unanswered(worker))
		ps_silence_end(&worker->looking_up.silence, false);
	worker->looking_up.next = ps_moment_plus(ps_clock_now(), LOOKUP_RETRY_MS);
	worker->shown.retries++;
	worker->failure.failing |= PS_DOING_BROKER; /* also while messages come that were fetched before */
	ps_options_invalidated = true;	/* a secret that is in a file may have been renewed */
	if (lookup->error[0] == '\0')
		ps_worker_set_state(worker, PS_STATE_RETRYING, psprintf("no topic matches \"%s\"", worker->stream->topic_pattern),
							"Create a topic that topic_pattern matches; the stream finds it by itself.");
	else if (lookup->topic_missing && lookup->ntopics == 1)
		ps_worker_set_state(worker, PS_STATE_RETRYING, psprintf("topic \"%s\" does not exist", lookup->topics[0].name),
							"Create the topic; the stream finds it by itself.");
	else if (lookup->topic_missing)
		ps_worker_set_state(worker, PS_STATE_RETRYING, psprintf("none of the %d topics exists", lookup->ntopics),
							"Create the topics; the stream finds them by itself.");
	else
	{
		const char *error = worker->shown.client_error ? worker->shown.client_error : lookup->error;

		ps_worker_set_state(worker, PS_STATE_RETRYING, error, ps_kafka_connect_hint(error));
	}
}

/* Asks the broker when that is due, and takes its answers. */
static void
serve_lookup(PsWorker *worker)
{
	PsLookup   *lookup = &worker->looking_up.lookup;
	bool		more;
	bool		lists;

	if (ps_lookup_done(lookup))
	{
		ereport(DEBUG1, (errmsg_internal("stream \"%s\": the look-up of %d topics gives %d partitions, error \"%s\"",
										 worker->stream->name, lookup->ntopics, ps_lookup_all_partitions(lookup), lookup->error)));
		ps_health_answered(worker);
		more = ps_topics_take_answer(worker);
		if (ps_rebuild_schema_used())
			ps_rebuild_check_answer(worker);
		if (lookup->error[0] == '\0' && lookup->ntopics > 0)
			take_answer(worker);
		else if (!more)
			take_no_answer(worker);
		if (more)
			worker->looking_up.next = 0;
	}
	if (lookup->running || worker->life == PS_LIFE_BACKING_OFF || ps_clock_now() < worker->looking_up.next)
		return;
	if (worker->life == PS_LIFE_LOOKING_UP)
	{
		ps_consumer_assign(worker->consumer, NULL, 0);	/* otherwise each answer waits for a fetch that waits */
		PS_FAILPOINT("unassigned");
	}
	ps_topics_update(worker);
	lists = worker->stream->topic_pattern != NULL && !ps_rebuild_schema_used();
	worker->looking_up.asked_in = worker->life;
	worker->looking_up.asked_shards = ps_shards_changes();
	ps_silence_ask(&worker->looking_up.silence);
	ps_topic_identity_note_asked(worker);
	(void) ps_lookup_start(lookup, worker->topics, worker->ntopics, lists, ps_assignment_start_ms(worker->stream), LOOKUP_TIMEOUT_MS);
	worker->looking_up.next = ps_moment_plus(ps_clock_now(), LOOKUP_RETRY_MS);
}

/* Whether there is memory for more messages. */
static bool
has_room(PsWorker *worker)
{
	if (worker->life == PS_LIFE_BLOCKED)
		return false;
	/* messages that are due are applied soon: more may be read as long as there is memory for them */
	return ps_batch_next_due(worker) != PS_MOMENT_PAST ||
		ps_waiting_bytes(worker->waiting) < ps_reorder_memory_kb * INT64CONST(1024);
}

/* Reads from the client and applies; returns whether more messages may be there already. */
static bool
serve_messages(PsWorker *worker)
{
	PsStream   *stream = worker->stream;
	PsIntake	intake = {0};
	bool		room = has_room(worker);
	bool		more = false;

	ps_flush_serve(worker);
	ps_topic_identity_note_turn(worker);
	if (room)
		ps_consumer_drain(worker->consumer, &intake, stream->batch_size, MAX_BATCH_BYTES,
						  ps_moment_plus(ps_clock_now(), stream->batch_wait_ms));
	if (intake.n > 0)
		ps_silence_end(&worker->looking_up.silence, false);
	if (intake.error != NULL)
	{
		/* librdkafka recovers by itself; a look-up says whether it has */
		set_client_error(worker, intake.error);
		worker->looking_up.next = Min(worker->looking_up.next, ps_moment_plus(ps_clock_now(), CLIENT_ERROR_LOOKUP_MS));
	}
	if (intake.lost != NIL || !ps_topic_identity_verify(worker, &intake) || !ps_shard_topic_verify(worker, &intake))
		ps_life_look_up(worker);
	ps_topic_identity_suspect(worker, &intake);
	if (!ps_life_has_partitions(worker))
		return false;			/* what was read just now is read again */
	if (room)
		more = ps_align(worker, &intake);
	if (intake.n > 0 || intake.ends != NIL || ps_batch_next_due(worker) <= ps_clock_now())
	{
		if (intake.n > 0)
			ps_health_begin(worker);
		ps_batch_apply(worker, &intake, false);
		ps_life_set_blocked(worker, ps_batch_is_blocked(worker));
		if (worker->failure.suspects == NIL)
			ps_failure_over(worker, PS_DOING_BATCH);
		worker->failure.lock_wait_until = 0;
		ps_report_complain(NULL);
		pgstat_report_stat(false);
		ps_worker_set_running(worker);
	}
	ps_unreadable_note(worker, &intake);
	return (more || !intake.exhausted) && worker->life == PS_LIFE_READING;
}

/* How long the loop may wait: until a message that waits is due. */
static long
due_ms(PsWorker *worker)
{
	PsMoment	due = ps_batch_next_due(worker);

	if (!ps_life_has_partitions(worker) || due == PS_MOMENT_NEVER)
		return Min(IDLE_MS, ps_align_wait_ms(worker));
	if (due == PS_MOMENT_PAST)
		return 0;				/* PS_MOMENT_PAST is no time to compute with */
	return (long) Min(Min(IDLE_MS, ps_align_wait_ms(worker)), ps_clock_left(due));
}

/* Whether the client is polled each turn. */
static bool
is_polling(const PsWorker *worker)
{
	return worker->life == PS_LIFE_LOOKING_UP || worker->life == PS_LIFE_READING;
}

static void
worker_wait_for_work(PsWorker *worker)
{
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;
	long		wait_ms = worker->looking_up.lookup.running ? LOOKUP_POLL_MS : Min(IDLE_MS, due_ms(worker));
	PsMoment	began = ps_clock_now();

	if (is_polling(worker))
		events |= WL_SOCKET_READABLE;	/* otherwise nobody empties the pipe, and the wait ends at once */
	pgstat_report_activity(STATE_IDLE, NULL);
	ps_report_turn(false, is_polling(worker));
	ps_control_waiting(worker, true);
	(void) WaitLatchOrSocket(MyLatch, events, ps_consumer_wakeup_fd(worker->consumer),
							 wait_ms, ps_wait_event(worker->life == PS_LIFE_BACKING_OFF ? PS_WAIT_NEXT_ATTEMPT : PS_WAIT_MESSAGES));
	ps_control_waiting(worker, false);
	ResetLatch(MyLatch);
	worker->reading.overslept = ps_clock_now() > ps_moment_plus(began, wait_ms + LATE_MS);
}

/* One turn of the loop of a worker that is connected. */
static void
worker_serve(PsWorker *worker)
{
	bool		more = false;

	/* profile_stream.reorder_memory may have changed */
	ps_life_set_blocked(worker, ps_batch_is_blocked(worker));
	ps_report_turn(true, is_polling(worker));
	ps_lag_report(worker);
	MemoryContextSwitchTo(worker->batch_context);
	worker->failure.doing = PS_DOING_LOOKUP;
	serve_lookup(worker);
	ps_balance(worker);
	ps_failure_turn(worker);
	ps_shard_progress_turn(worker);
	MemoryContextSwitchTo(worker->batch_context);
	if (worker->life != PS_LIFE_BACKING_OFF)
	{
		worker->failure.doing = PS_DOING_BATCH;
		more = serve_messages(worker);
		ps_health_check(worker);
		ps_order_report_log(worker);
		worker->failure.doing = PS_DOING_RETENTION;
		ps_retention(worker);
	}
	worker->failure.doing = PS_DOING_LOOKUP;
	ps_rebuild_follow(worker);
	MemoryContextSwitchTo(worker->context);
	MemoryContextReset(worker->batch_context);
	if (!more)
		worker_wait_for_work(worker);
}

/* Takes the caught error and aborts its transaction. *news: the log did not have this error yet; then it has it now. */
static ErrorData *
worker_take_error(PsWorker *worker, bool *news)
{
	ErrorData  *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(worker->batch_context);
	error = CopyErrorData();
	/* a wait for a lock is logged later, with the holder of the lock */
	*news = !worker->failure.superseded && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
		ps_reason_is_new(&worker->shown.logged, error->message);
	if (*news)
		EmitErrorReport();
	FlushErrorState();
	AbortOutOfAnyTransaction();
	RESUME_INTERRUPTS();
	return error;
}

/* What caused an error; a transaction that was too large for the lock table will be smaller. */
static PsFault
find_fault(PsWorker *worker, const ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		return PS_FAULT_LOCK;
	if (error->sqlerrcode == ERRCODE_OUT_OF_MEMORY && ps_lock_budget_shrink(worker))
		return PS_FAULT_SIZE;
	return PS_FAULT_RANGE;
}

/* Backs off after an error, and shows it. */
static void
worker_back_off(PsWorker *worker, ErrorData *error, bool news)
{
	PsFault		fault = find_fault(worker, error);
	int64		next_attempt_ms;
	int64		wait_ms = ps_failure_begin(worker, fault, &next_attempt_ms);

	ereport(DEBUG1, (errmsg_internal("worker %d of stream %d backs off for " INT64_FORMAT " ms: %s",
									 worker->number, worker->stream_id, wait_ms, error->message)));
	ps_life_back_off(worker, wait_ms);
	worker->failure.lock_wait_until = fault == PS_FAULT_LOCK ? ps_moment_plus(ps_clock_now(), wait_ms + LOCK_SHOWN_MS) : 0;
	PG_TRY();
	{
		ps_worker_report_error(worker, error, news, next_attempt_ms);
	}
	PG_CATCH();
	{
		worker->failure.superseded = false;
		FlushErrorState();
		AbortOutOfAnyTransaction();
	}
	PG_END_TRY();
}

/* Recovers from an ERROR. */
static void
worker_recover(PsWorker *worker)
{
	bool		news;
	ErrorData  *error = worker_take_error(worker, &news);

	if (worker->failure.superseded)
	{
		worker->failure.superseded = false;
		ps_failure_forget_range(worker);
		ps_life_look_up(worker);
	}
	else if (worker->failure.doing == PS_DOING_RETENTION)
		ps_retention_failed(worker, error->message);
	else
		worker_back_off(worker, error, news);
	MemoryContextSwitchTo(worker->context);
	MemoryContextReset(worker->batch_context);
}

/* Connects to the database, and makes what the worker needs. */
static void
worker_start(PsWorker *worker, int stream_id)
{
	PsProcess	process = ps_bgworker_process();

	if (process.rebuild)
	{
		ps_rebuild_schema_use();
		worker->reading.next_report = PG_INT64_MAX; /* never: Kafka's offsets of the group are the stream's */
	}
	if (!ps_bgworker_connect(process.database, process.owner))
		ps_bgworker_end_if_ownerless(process.owner, stream_id);
	SetConfigOption("lc_messages", "C", PGC_SUSET, PGC_S_OVERRIDE); /* reasons of dead letters are in one language */
	SetConfigOption("synchronous_commit", ps_synchronous_commit ? "on" : "off", PGC_USERSET, PGC_S_SESSION);

	worker->stream_id = stream_id;
	worker->number = process.number;
	worker->context = AllocSetContextCreate(TopMemoryContext, "profile_stream worker", ALLOCSET_DEFAULT_SIZES);
	/* a large first block stays allocated when a context is reset: a batch causes no page faults */
	worker->batch_context = AllocSetContextCreate(worker->context, "profile_stream batch",
												  BATCH_MEMORY, BATCH_MEMORY, BATCH_MEMORY);
	worker->apply_context = AllocSetContextCreate(worker->context, "profile_stream apply",
												  BATCH_MEMORY, BATCH_MEMORY, BATCH_MEMORY);
	worker->parts_context = AllocSetContextCreate(worker->context, "profile_stream parts", ALLOCSET_SMALL_SIZES);
	worker->waiting = ps_waiting_create(worker->context);
	ps_control_init();
	keep_memory();
}

/*
 * Becomes the stream's worker, reads the stream, and counts this start. The loop
 * calls it, so that errors here are recovered from, too.
 */
static void
worker_begin(PsWorker *worker)
{
	const char *what = ps_rebuild_schema_used() ? "rebuild of stream" : "stream";

	ps_transaction_start();
	ps_lease_wait_start(worker->stream_id);
	ps_bgworker_end_unless_matched();
	CommitTransactionCommand();
	if (!ps_lease_become_worker(worker->stream_id, worker->number))
	{
		ereport(LOG, (errmsg("%s %d already has worker %d", what, worker->stream_id, worker->number)));
		proc_exit(0);
	}
	ps_lock_wait_bound_process();
	ps_meter_begin(worker->stream_id, worker->number);
	ps_control_begin(worker);
	ps_bgworker_name(ps_rebuild_schema_used() ? "rebuild" : "", worker->stream->name);
	pgstat_report_activity(STATE_RUNNING, psprintf("start worker %d", worker->number));
	ps_poison_begin(worker);
	ps_health_start(worker);
	ps_lock_budget_reset(worker);
	ps_failure_over(worker, PS_DOING_CONTROL);
	ps_life_started(worker);
	ereport(LOG, (errmsg("%s \"%s\" started worker %d", what, worker->stream->name, worker->number)));
}

/* A pause of the loop. */
static void
worker_rest(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, IDLE_MS, ps_wait_event(PS_WAIT_NEXT_ATTEMPT));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* One turn of the process, in any state of its life. */
static void
worker_turn(PsWorker *worker)
{
	worker->failure.doing = PS_DOING_CONTROL;
	ps_meter_turn();
	ps_life_turn(worker);
	if (worker->life == PS_LIFE_STARTING)
		worker_begin(worker);
	else if (!ps_life_has_started(worker))
	{
		worker_rest();
		return;
	}
	ps_control_serve(worker);
	if (worker->life != PS_LIFE_BACKING_OFF)
		ps_failure_over(worker, PS_DOING_CONTROL);
	if (worker->life == PS_LIFE_CONNECTING)
		worker->failure.doing = PS_DOING_CONNECT;
	if (worker->life == PS_LIFE_CONNECTING && ps_rebuild_schema_used() && ps_rebuild_bootstrap(worker))
		ps_failure_over(worker, PS_DOING_CONNECT);
	else if (worker->life == PS_LIFE_CONNECTING)
	{
		connect_kafka(worker);
		ps_failure_over(worker, PS_DOING_CONNECT);
	}
	else if (worker->consumer != NULL)
		worker_serve(worker);
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
