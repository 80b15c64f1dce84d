/*
 * relay.c
 *	  The background worker that delivers a stream's outbox to its Redis: one per
 *	  stream, beside the workers, started and stopped with them.
 *
 *	  It moves the outbox into what is pending, at most one row per customer, reads
 *	  a batch of profiles as they are then, makes sure that what it has seen is on
 *	  disk, sends, and removes what was answered. Whatever changes meanwhile is in
 *	  the outbox again. On the network it waits without a transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "ingest/lease.h"
#include "ingest/relay.h"
#include "ingest/watch.h"
#include "ingest/worker.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "redis.h"
#include "sink/redis_client.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "store/lock.h"
#include "store/outbox.h"
#include "store/stream_catalog.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define SINK "redis"
#define MOVE_ROWS 20000
#define MOVE_MS 1000
#define BATCH 1000
#define LOOK_MS 100				/* how often it looks into the outbox */
#define TURN_MS 500				/* how often it looks whether it shall go on */
#define MAX_BACKOFF_MS 10000

PGDLLEXPORT void profile_stream_relay_main(Datum arg);

typedef struct PsRelay
{
	int			stream_id;
	MemoryContext context;
	MemoryContext stream_context;	/* of stream and target, replaced when they are read again */
	MemoryContext redis_context;	/* of the connection, which ends with it */
	MemoryContext batch_context;
	PsStream   *stream;
	PsRedisTarget *target;
	PsRedis    *redis;			/* NULL: not connected */
	PsRedisItem *items;			/* on their way; NULL: none */
	int			nitems;
	int64		last;			/* of what is pending, among them */
	int			failures;		/* in a row */
	bool		drained;		/* the last batch took all that was pending */
	PsMoment	next_move;
	PsMoment	next_attempt;
	char	   *error;			/* as last shown */
} PsRelay;

static MemoryContext turn_context;	/* of one turn of the loop */

/* Begins a transaction, when nobody is just taking what was to be delivered away. */
static void
begin(int stream_id)
{
	StartTransactionCommand();
	ps_lease_wait_start(stream_id);
	ps_lock_tables();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit(void)
{
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
	MemoryContextSwitchTo(turn_context);
	pgstat_report_stat(false);
}

/* Gives the connection up; what was on its way stays pending. */
static void
disconnect(PsRelay *relay)
{
	MemoryContextReset(relay->redis_context);
	relay->redis = NULL;
	relay->items = NULL;
	MemoryContextReset(relay->batch_context);
}

/* Remembers which error is shown, NULL for none. */
static void
note_error(PsRelay *relay, const char *error)
{
	if (relay->error != NULL)
		pfree(relay->error);
	relay->error = error ? MemoryContextStrdup(relay->context, error) : NULL;
}

static void
show_state(PsRelay *relay, const char *state, const char *error, const char *hint, int64 next_attempt_ms)
{
	begin(relay->stream_id);
	ps_outbox_set_state(relay->stream_id, SINK, state, error, hint, next_attempt_ms);
	commit();
	note_error(relay, error);
}

/* Reads the stream again; ends the process when it shall not run. */
static void
check_stream(PsRelay *relay)
{
	MemoryContext old;

	ps_watch_stream = ps_watch_options = false;
	disconnect(relay);			/* it may be another Redis, or another password */
	MemoryContextReset(relay->stream_context);
	relay->stream = NULL, relay->target = NULL;
	StartTransactionCommand();
	ps_lock_tables();
	if (ps_watch_extension())
	{
		SPI_connect();
		PushActiveSnapshot(GetTransactionSnapshot());
		old = MemoryContextSwitchTo(relay->stream_context);
		relay->stream = ps_stream_find(NULL, relay->stream_id);
		if (relay->stream != NULL && relay->stream->enabled && relay->stream->redis != NULL)
			relay->target = ps_redis_target(relay->stream->redis, GetUserId());
		MemoryContextSwitchTo(old);
		PopActiveSnapshot();
		SPI_finish();
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(turn_context);
	if (relay->target == NULL)
		proc_exit(0);
	relay->next_attempt = 0;
}

/* Shows why nothing is delivered, and when it is tried again. */
static void
back_off(PsRelay *relay, const char *error, const char *hint)
{
	int64		backoff = Min(MAX_BACKOFF_MS, INT64CONST(500) << Min(relay->failures, 6));

	backoff += (int64) (pg_prng_double(&pg_global_prng_state) * backoff / 4);
	relay->failures++;
	relay->next_attempt = ps_moment_plus(ps_clock_now(), backoff);
	if (relay->error == NULL || strcmp(relay->error, error) != 0)
		ereport(LOG, (errmsg("stream \"%s\" cannot deliver to Redis: %s", relay->stream ? relay->stream->name : "", error)));
	show_state(relay, "retrying", error, hint, backoff);
}

/* Takes a batch of what is pending, as items. */
static void
take_batch(PsRelay *relay)
{
	MemoryContext old;
	PsPending  *pending;
	int			n = 0;

	/* moving goes on beside a backlog, so that it stays one row per customer */
	if (relay->drained || ps_clock_now() >= relay->next_move)
	{
		begin(relay->stream_id);
		(void) ps_outbox_move(relay->stream_id, SINK, MOVE_ROWS);
		commit();
		relay->next_move = ps_moment_plus(ps_clock_now(), MOVE_MS);
	}
	if (relay->target == NULL || ps_clock_now() < relay->next_attempt)
		return;

	begin(relay->stream_id);
	old = MemoryContextSwitchTo(relay->batch_context);
	n = ps_outbox_read(relay->stream_id, SINK, BATCH, &pending, &relay->last);
	relay->nitems = n;
	relay->drained = n < BATCH;
	relay->items = n > 0 ? palloc0(n * sizeof(PsRedisItem)) : NULL;
	for (int i = 0; i < n; i++)
	{
		relay->items[i].customer_id = pending[i].customer_id;
		relay->items[i].version = pending[i].version;
		relay->items[i].document = pending[i].document;
	}
	MemoryContextSwitchTo(old);
	commit();
	if (n == 0)
		MemoryContextReset(relay->batch_context);
}

/* Sends the batch, once nothing that it says can be lost by a crash. */
static void
send_batch(PsRelay *relay)
{
	ps_outbox_flush();
	PS_FAILPOINT("relay_before_send");
	if (relay->redis == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(relay->redis_context);
		char	   *writer = psprintf(UINT64_FORMAT ".%u.%d", GetSystemIdentifier(), MyDatabaseId, relay->stream_id);

		relay->redis = ps_redis_open(relay->target, relay->stream->redis_prefix, relay->stream->redis_ttl_s, writer);
		MemoryContextSwitchTo(old);
	}
	ps_redis_send(relay->redis, relay->items, relay->nitems);
}

/* Removes what was answered. */
static void
finish_batch(PsRelay *relay)
{
	int64		refused = 0;

	PS_FAILPOINT("relay_after_send");
	for (int i = 0; i < relay->nitems; i++)
		refused += relay->items[i].result == PS_REDIS_FOREIGN;
	begin(relay->stream_id);
	ps_outbox_delivered(relay->stream_id, SINK, relay->last);
	ps_outbox_count(relay->stream_id, SINK, relay->nitems - refused, refused);
	commit();
	PS_FAILPOINT("relay_after_delete");
	relay->failures = 0;
	note_error(relay, NULL);
	relay->items = NULL;
	MemoryContextReset(relay->batch_context);
}

/* Waits for the outbox to be looked into, or for Redis; returns what is ready. */
static int
wait_for_work(PsRelay *relay)
{
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;
	long		timeout = relay->items != NULL ? Min(TURN_MS, ps_redis_timeout_ms(relay->redis)) : LOOK_MS;
	int			ready;

	pgstat_report_activity(STATE_IDLE, NULL);
	if (relay->redis != NULL)
		ready = WaitLatchOrSocket(MyLatch, events | ps_redis_events(relay->redis), ps_redis_socket(relay->redis), timeout, PG_WAIT_EXTENSION);
	else
		ready = WaitLatch(MyLatch, events, timeout, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	return ready;
}

/* One turn of the loop. */
static void
serve(PsRelay *relay)
{
	int			ready = 0;
	PsRedisState state = PS_REDIS_IDLE;

	if (relay->items == NULL)
	{
		take_batch(relay);
		if (relay->items != NULL)
			send_batch(relay);
	}
	if (relay->redis != NULL)
		state = ps_redis_work(relay->redis, 0);
	if (state == PS_REDIS_BUSY || relay->items == NULL)
	{
		ready = wait_for_work(relay);
		if (relay->redis != NULL)
			state = ps_redis_work(relay->redis, ready);
	}
	if (state == PS_REDIS_FAILED && relay->items != NULL)
	{
		const char *hint;
		char	   *error = pstrdup(ps_redis_error(relay->redis, &hint));

		disconnect(relay);
		back_off(relay, error, hint);
	}
	else if (state == PS_REDIS_FAILED)
		disconnect(relay);		/* nothing was on its way: connect when there is */
	else if (state == PS_REDIS_IDLE && relay->items != NULL)
		finish_batch(relay);
}

static void
control(PsRelay *relay)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	AcceptInvalidationMessages();
	if ((ps_watch_stream || ps_watch_options) && ps_clock_now() >= relay->next_attempt)
		check_stream(relay);
	if (!ps_enabled)
		proc_exit(0);
}

/* Recovers from an ERROR: shows it, and reads the stream again after a back-off. */
static void
recover(PsRelay *relay)
{
	ErrorData  *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(turn_context);
	error = CopyErrorData();
	FlushErrorState();
	AbortOutOfAnyTransaction();
	RESUME_INTERRUPTS();
	disconnect(relay);
	ps_watch_stream = true;
	PG_TRY();
	{
		back_off(relay, error->message, error->hint);
	}
	PG_CATCH();
	{
		FlushErrorState();
		AbortOutOfAnyTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(turn_context);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

/* Connects, and becomes the stream's relay. */
static void
start(PsRelay *relay, int stream_id)
{
	Oid			where[4];		/* database, owner, as of a worker */

	memcpy(where, MyBgworkerEntry->bgw_extra, sizeof(where));
	ps_worker_connect(where[0], where[1]);
	SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION);	/* what is lost is delivered again */
	ps_watch_begin();

	relay->stream_id = stream_id;
	relay->context = AllocSetContextCreate(TopMemoryContext, "profile_stream relay", ALLOCSET_DEFAULT_SIZES);
	relay->stream_context = AllocSetContextCreate(relay->context, "profile_stream stream", ALLOCSET_SMALL_SIZES);
	relay->redis_context = AllocSetContextCreate(relay->context, "profile_stream Redis", ALLOCSET_SMALL_SIZES);
	turn_context = AllocSetContextCreate(relay->context, "profile_stream turn", ALLOCSET_SMALL_SIZES);
	relay->batch_context = AllocSetContextCreate(relay->context, "profile_stream batch", ALLOCSET_DEFAULT_SIZES);

	StartTransactionCommand();
	ps_lease_wait_start(stream_id);
	CommitTransactionCommand();
	if (!ps_lease_become_worker(stream_id, PS_RELAY_NUMBER))
		proc_exit(0);
}

void
profile_stream_relay_main(Datum arg)
{
	PsRelay		relay = {0};

	start(&relay, DatumGetInt32(arg));
	for (;;)
	{
		MemoryContextSwitchTo(turn_context);
		MemoryContextReset(turn_context);
		PG_TRY();
		{
			control(&relay);
			serve(&relay);
		}
		PG_CATCH();
		{
			recover(&relay);
		}
		PG_END_TRY();
	}
}
