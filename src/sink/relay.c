/*
 * relay.c
 *	  The background worker that delivers to a sink of a stream. Each sink has its own,
 *	  so that none waits for another. It starts and stops with the stream's workers.
 *
 *	  A turn has four steps. The relay moves rows of the outbox to sink_pending, which has
 *	  at most one row per customer. It reads a batch of profiles as they are now. It
 *	  flushes the WAL, so that a crash cannot take back what it sends, and sends. When the
 *	  sink has answered, it removes the batch. A customer that changes meanwhile is in the
 *	  outbox again. The relay never waits for the network in a transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
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
#include "sink/relay.h"
#include "sink/sink.h"
#include "sink/takeover.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "store/distributed.h"
#include "store/extension.h"
#include "store/lock_wait.h"
#include "store/locks.h"
#include "store/outbox.h"
#include "store/owner.h"
#include "store/process_counters.h"
#include "store/shards.h"
#include "store/stream_catalog.h"
#include "store/xact.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MOVE_ROWS 20000
#define MOVE_MS 1000
#define LOOK_MS 100				/* how often the relay looks into the outbox */
#define TURN_MS 500				/* how often it checks its stream during a batch */
#define NEW_PROCESS_MS 5000		/* pause before a new process goes on */

PGDLLEXPORT void profile_stream_relay_main(Datum arg);

/* Gives up the batch, which stays pending. */
static void
give_up(PsRelay *relay)
{
	relay->sink->methods->disconnect(relay->sink);
	relay->connecting = relay->connected = false;
	relay->nitems = 0;
	MemoryContextReset(relay->batch_context);
}

/* Measures the batch that was delivered. */
static void
measure_batch(const PsRelay *relay, int64 refused)
{
	PsMeterBatch batch = {.items = relay->nitems,.read = relay->nitems,.done = relay->nitems - refused,.us = ps_clock_now() - relay->taken_at};
	TimestampTz now = GetCurrentTimestamp();
	int64	   *latency = ps_meter_latency();

	for (int i = 0; i < relay->nitems; i++)
		latency[ps_histogram_bucket(now - relay->sink->changed_at[i])]++;
	ps_meter_batch(&batch);
}

/* Removes the batch that was delivered. */
static void
finish_batch(PsRelay *relay)
{
	int64		refused;

	PS_FAILPOINT("relay_after_send");
	ps_relay_begin(relay);
	if (relay->error != NULL)
		ps_relay_show_well(relay, PS_STATE_RUNNING);
	refused = relay->sink->methods->finish(relay->sink);

	ps_outbox_count(relay->stream_id, relay->sink->kind, relay->nitems - refused, refused);
	ps_relay_rest(relay);
	ps_relay_commit(relay);
	ps_lock_wait_over();
	measure_batch(relay, refused);
	ereport(DEBUG1, (errmsg_internal("stream \"%s\" has delivered %d items to its sink \"%s\", " INT64_FORMAT " of them refused",
									 relay->stream->name, relay->nitems, ps_sinks[relay->sink->kind].name, refused)));
	PS_FAILPOINT("relay_after_delete");
	relay->failures = 0;
	relay->connected = relay->shown = true;
	relay->nitems = 0;
	MemoryContextReset(relay->batch_context);
}

/* Shows that the sink works, though there is nothing to deliver yet. */
static void
relay_finish_connecting(PsRelay *relay)
{
	ps_takeover_finish(relay);
	relay->connected = true;
	relay->failures = 0;
	if (relay->shown && relay->error == NULL)
		return;
	relay->shown = true;
	ps_relay_begin(relay);
	ps_relay_show_well(relay, PS_STATE_IDLE);
	ps_relay_commit(relay);
}

/* Acts on the state of the sink. */
static void
act_on(PsRelay *relay, PsSinkState state)
{
	const char *hint = NULL;
	const char *error = NULL;

	if (state == PS_SINK_IDLE && relay->nitems > 0)
		finish_batch(relay);
	else if (state == PS_SINK_IDLE && relay->connecting && !relay->connected)
		relay_finish_connecting(relay);
	if (state == PS_SINK_IDLE)
		return;
	if (state != PS_SINK_RETRY_NOW && (relay->nitems > 0 || (relay->connecting && !relay->connected)) &&
		(error = relay->sink->methods->error(relay->sink, &hint)) != NULL)
		error = pstrdup(error);
	if (state != PS_SINK_BUSY)
		give_up(relay);
	ps_options_invalidated |= error != NULL;	/* a secret that is in a file may have been renewed */
	if (state == PS_SINK_FAILED && error != NULL)
		ps_relay_back_off(relay, error, hint);
	else if (state == PS_SINK_NEEDS_RESTART && error == NULL)
		proc_exit(1);			/* the postmaster starts a new process in a second */
	else if (state == PS_SINK_NEEDS_RESTART)
	{
		relay->needs_restart = true;
		relay->next_attempt = ps_moment_plus(ps_clock_now(), NEW_PROCESS_MS);
		ps_relay_show_error(relay, error, hint, NEW_PROCESS_MS);
	}
	else if (error != NULL && !ps_relay_shows(relay, error))
		ps_relay_show_error(relay, error, hint, -1);
}

/* What nobody else delivers by. Nodes of Citus may be copies of one server. Needs a transaction. */
static const char *
name_of_writer(MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	const char *name = psprintf(UINT64_FORMAT ".%u", GetSystemIdentifier(), MyDatabaseId);

	if (ps_distributed())
		name = psprintf("%s.%d", name, ps_shards_group());
	MemoryContextSwitchTo(old);
	return name;
}

/* Reads the stream again. Ends the process when the stream, or this sink of it, shall not run. */
static void
relay_check_stream(PsRelay *relay)
{
	MemoryContext context = AllocSetContextCreate(relay->turn_context, "profile_stream stream", ALLOCSET_SMALL_SIZES);
	PsStream   *stream = NULL;
	PsSinkState state = PS_SINK_IDLE;
	bool		forgotten = false;

	ps_stream_invalidated = ps_options_invalidated = false;
	ps_transaction_start();
	ps_lock_definitions(AccessShareLock);
	ps_bgworker_end_unless_matched();
	if (ps_invalidation_has_extension())
	{
		ps_spi_begin();
		MemoryContextSwitchTo(context);
		stream = ps_stream_find(NULL, relay->stream_id);
		if (stream != NULL && (!stream->enabled || ps_stream_is_foreign(stream) || stream->sinks[relay->sink->kind] == NULL ||
							   !ps_invalidation_owns(stream)))
			stream = NULL;
		if (stream != NULL && !relay->counted)
			ps_process_count_start(relay->stream_id, ps_sinks[relay->sink->kind].name, ps_bgworker_process().registration);
		if (stream != NULL)
		{
			if (relay->sink->writer == NULL)
				relay->sink->writer = name_of_writer(relay->context);
			state = relay->sink->methods->configure(relay->sink, stream, GetUserId());
			forgotten = relay->connected && relay->error == NULL && !ps_outbox_has_state(relay->stream_id, relay->sink->kind);
		}
		ps_spi_end();
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(relay->turn_context);
	if (stream == NULL)
		proc_exit(0);

	relay->counted = true;
	act_on(relay, state == PS_SINK_IDLE ? PS_SINK_BUSY : state);
	if (relay->stream_context != NULL)
		MemoryContextDelete(relay->stream_context);
	MemoryContextSetParent(context, relay->context);
	relay->stream_context = context;
	relay->stream = stream;
	relay->next_attempt = 0;
	ps_bgworker_name(ps_sinks[relay->sink->kind].name, stream->name);
	if (forgotten && relay->connected)
	{
		relay->shown = false;
		relay_finish_connecting(relay);
	}
}

/* Moves rows of the outbox to sink_pending, also while the sink is away: there they stay one row per customer. */
static void
move_outbox(PsRelay *relay)
{
	ps_relay_begin(relay);
	ps_outbox_move(relay->stream_id, relay->sink->kind, MOVE_ROWS, ps_takeover_matters(relay) ? relay->sink->writer : NULL, relay->owned,
				   relay->nitems > 0 ? &relay->sink->taken : NULL);
	ps_relay_commit(relay);
	ps_lock_wait_over();
	relay->next_move = ps_moment_plus(ps_clock_now(), MOVE_MS);
}

/* Reads a batch and begins to send it. */
static void
take_batch(PsRelay *relay)
{
	PsSink	   *sink = relay->sink;
	bool		owned;
	int			n;

	relay->taken_at = ps_clock_now();
	ps_relay_begin(relay);
	ps_check_may_run(GetUserId());
	MemoryContextSwitchTo(relay->batch_context);
	n = sink->methods->read(sink);
	owned = ps_takeover_is_done(relay);
	ps_relay_commit(relay);
	ps_lock_wait_over();
	if (!owned)
	{
		MemoryContextReset(relay->batch_context);	/* what has come is perhaps another node's */
		return;
	}
	relay->nitems = n;
	relay->drained = n < sink->limit;
	if (n == 0)
		return;
	ps_outbox_flush();
	PS_FAILPOINT("relay_before_send");
	sink->methods->send(sink);
}

/* Waits for the sink, or until it is time to look into the outbox; returns what is ready. */
static int
relay_wait_for_work(PsRelay *relay)
{
	const PsSinkMethods *methods = relay->sink->methods;
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;
	bool		waits = relay->nitems > 0 || !relay->connected;
	long		timeout = relay->nitems > 0 ? TURN_MS : LOOK_MS;
	long		sinks_timeout = waits ? methods->timeout_ms(relay->sink) : -1;
	pgsocket	socket = methods->socket(relay->sink);
	uint32		event = ps_wait_event(ps_clock_now() < relay->next_attempt ? PS_WAIT_NEXT_ATTEMPT :
									  waits ? PS_WAIT_SINK : PS_WAIT_CHANGES);
	int			ready;

	if (sinks_timeout >= 0)
		timeout = Min(timeout, sinks_timeout);
	/* idle also when items are on their way: it has no transaction */
	pgstat_report_activity(STATE_IDLE, relay->nitems > 0 ?
						   psprintf("deliver %d items to %s", relay->nitems, ps_sinks[relay->sink->kind].name) :
						   psprintf("wait for changes for %s", ps_sinks[relay->sink->kind].name));
	if (socket != PGINVALID_SOCKET)
		ready = WaitLatchOrSocket(MyLatch, events | methods->events(relay->sink), socket, timeout, event);
	else
		ready = WaitLatch(MyLatch, events, timeout, event);
	ResetLatch(MyLatch);
	return ready;
}

/* One turn of the loop. */
static void
relay_serve(PsRelay *relay)
{
	PsSinkState state;

	if (relay->nitems == 0 && !ps_stream_invalidated && ps_clock_now() >= relay->next_attempt)
		ps_takeover_look(relay);
	/* after an invalidation the stream is checked first: its tables may be gone */
	if (ps_sinks[relay->sink->kind].content != PS_DELIVERS_DEAD_LETTERS && !ps_stream_invalidated && ps_takeover_is_done(relay) &&
		((relay->nitems == 0 && relay->drained) || ps_clock_now() >= relay->next_move))
		move_outbox(relay);
	if (relay->nitems == 0 && !ps_stream_invalidated && ps_clock_now() >= relay->next_attempt && ps_takeover_is_done(relay) &&
		(relay->connected || !ps_takeover_matters(relay)))
		take_batch(relay);
	if (!relay->connected && !ps_stream_invalidated && ps_clock_now() >= relay->next_attempt)
	{
		relay->sink->methods->connect(relay->sink);
		relay->connecting = true;
	}
	state = relay->sink->methods->work(relay->sink, 0);
	if (state == PS_SINK_BUSY || relay->nitems == 0)
		state = relay->sink->methods->work(relay->sink, relay_wait_for_work(relay));
	act_on(relay, state);
}

static void
relay_control(PsRelay *relay)
{
	CHECK_FOR_INTERRUPTS();
	ps_meter_turn();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		ps_stream_invalidated = true;	/* the cluster may have another name */
	}
	AcceptInvalidationMessages();
	if (ps_options_invalidated)
		ps_bgworker_end_if_ownerless(GetSessionUserId(), relay->stream_id);
	if ((ps_stream_invalidated || ps_options_invalidated || ps_extension_is_doubtful()) && ps_clock_now() >= relay->next_attempt)
		relay_check_stream(relay);
	if (!ps_enabled)
		proc_exit(0);
	if (relay->needs_restart && ps_clock_now() >= relay->next_attempt)
		proc_exit(1);
}

/* Recovers from an ERROR: shows it, and reads the stream again after a pause. */
static void
relay_recover(PsRelay *relay)
{
	ErrorData  *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(relay->turn_context);
	error = CopyErrorData();
	FlushErrorState();
	AbortOutOfAnyTransaction();
	RESUME_INTERRUPTS();
	give_up(relay);
	ps_stream_invalidated = true;
	PG_TRY();
	{
		(void) ps_lock_wait_explain(error);
		ps_relay_back_off(relay, error->message, error->hint);
	}
	PG_CATCH();
	{
		FlushErrorState();
		AbortOutOfAnyTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(relay->turn_context);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_MS, ps_wait_event(PS_WAIT_NEXT_ATTEMPT));
	ResetLatch(MyLatch);
}

/* Connects, and takes the lease of the relay. */
static void
relay_start(PsRelay *relay, int stream_id)
{
	PsProcess	process = ps_bgworker_process();
	int			kind;

	kind = process.number - PS_RELAY_NUMBER(0);
	if (!ps_bgworker_connect(process.database, process.owner))
		ps_bgworker_end_if_ownerless(process.owner, stream_id);
	SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION);	/* a crash loses at most the note of a
																				 * delivery, which is then repeated */
	ps_invalidation_begin();

	relay->stream_id = stream_id;
	relay->context = AllocSetContextCreate(TopMemoryContext, "profile_stream relay", ALLOCSET_DEFAULT_SIZES);
	relay->turn_context = AllocSetContextCreate(relay->context, "profile_stream turn", ALLOCSET_SMALL_SIZES);
	relay->batch_context = AllocSetContextCreate(relay->context, "profile_stream batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(relay->context);
	relay->sink = ps_sink_create(kind, stream_id);

	ps_transaction_start();
	ps_lease_wait_start(stream_id);
	CommitTransactionCommand();
	if (!ps_lease_become_worker(stream_id, process.number))
		proc_exit(0);
	ps_lock_wait_bound_process();
	ps_meter_begin(stream_id, process.number);
}

void
profile_stream_relay_main(Datum arg)
{
	PsRelay		relay = {0};

	relay_start(&relay, DatumGetInt32(arg));
	for (;;)
	{
		MemoryContextSwitchTo(relay.turn_context);
		MemoryContextReset(relay.turn_context);
		PG_TRY();
		{
			relay_control(&relay);
			if (relay.needs_restart)
				(void) relay_wait_for_work(&relay);
			else
				relay_serve(&relay);
		}
		PG_CATCH();
		{
			relay_recover(&relay);
		}
		PG_END_TRY();
	}
}
