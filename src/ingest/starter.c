/*
 * starter.c
 *	  How a worker or a relay becomes a process of its database and role, and what
 *	  follows when it cannot: too many connections, a database that takes none.
 *
 *	  Such a process can write nothing, and the postmaster would start it again
 *	  every second. So it ends for good and leaves its error to a starter, a process
 *	  that connects as a superuser, says in stat_streams why the stream does not run,
 *	  waits, longer each time, and then starts that worker again and ends. Of a
 *	  database that takes no connections it waits without one until it does.
 */
#include "postgres.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "access/xact.h"
#include "executor/spi.h"
#include "ingest/launcher.h"
#include "ingest/worker.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "process/lease.h"
#include "settings.h"
#include "sink/relay.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "store/outbox.h"
#include "store/owner.h"
#include "store/rebuild_catalog.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#define FRESH_S 10				/* after it was registered a failure counts as the next in a row */
#define LEASE_OF_STARTER(number) (0x80000000 + (uint32) (number))	/* neither a partition's nor a worker's */

PGDLLEXPORT void profile_stream_starter_main(Datum arg);

/* What a process that could not connect leaves, in the starter's bgw_extra. */
typedef struct Failure
{
	int			stream_id;
	int			number;			/* as of a worker */
	bool		rebuild;
	int			tries;			/* before this one */
	int			sqlerrcode;
	Oid			owner;
	char		message[BGW_EXTRALEN - 6 * sizeof(int)];
} Failure;

StaticAssertDecl(sizeof(Failure) <= BGW_EXTRALEN, "Failure must fit into bgw_extra");

static Failure failure;			/* message empty: none */
static Oid	database_to_connect = InvalidOid;

/* Notes why this process cannot connect. */
static void
note_fatal(ErrorData *error)
{
	if (error->elevel < FATAL || error->message == NULL || failure.message[0] != '\0' ||
		ERRCODE_TO_CATEGORY(error->sqlerrcode) == MAKE_SQLSTATE('5', '7', '0', '0', '0'))	/* it was told to end */
		return;
	failure.sqlerrcode = error->sqlerrcode;
	strlcpy(failure.message, error->message, sizeof(failure.message));
}

/* Registers the starter, while this process still may. */
static void
leave_to_starter(int code, Datum arg)
{
	BackgroundWorker worker;

	if (failure.message[0] == '\0' || failure.sqlerrcode == ERRCODE_UNDEFINED_DATABASE)
		return;
	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "profile_stream", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "profile_stream_starter_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "profile_stream starter", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "profile_stream starter", BGW_MAXLEN);
	worker.bgw_main_arg = ObjectIdGetDatum(database_to_connect);
	memcpy(worker.bgw_extra, &failure, sizeof(failure));
	(void) RegisterDynamicBackgroundWorker(&worker, NULL);
}

/* Ends a worker that could not connect as done, or the postmaster would start it every second. */
static void
exit_for_good(int code, Datum arg)
{
	if (failure.message[0] != '\0')
		_exit(0);
}

void
ps_session_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_deferrable", "off"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION);
}

bool
ps_worker_connect(Oid database, Oid owner)
{
	emit_log_hook_type log_hook = emit_log_hook;
	Oid			where[6];

	memcpy(where, MyBgworkerEntry->bgw_extra, sizeof(where));
	failure.stream_id = DatumGetInt32(MyBgworkerEntry->bgw_main_arg);
	failure.number = (int) where[2];
	failure.rebuild = where[3] != 0;
	/* it may have run since, for days */
	failure.tries = (Oid) time(NULL) - where[5] < FRESH_S ? (int) where[4] : 0;
	failure.owner = owner;
	database_to_connect = database;
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	emit_log_hook = note_fatal;
	before_shmem_exit(leave_to_starter, (Datum) 0);
	on_proc_exit(exit_for_good, (Datum) 0);
	BackgroundWorkerUnblockSignals();
	PS_FAILPOINT("connect");
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	emit_log_hook = log_hook;
	failure.message[0] = '\0';
	ps_session_settings();
	return ps_worker_become(owner);
}

/* What may be done about it. */
static const char *
hint_of(const Failure *why)
{
	switch (why->sqlerrcode)
	{
		case ERRCODE_TOO_MANY_CONNECTIONS:
			return "Raise the limit of connections, or end some.";
		default:
			return "See the server's log.";
	}
}

/* Says why the stream, its rebuild or its sink does not run, and when it is tried again. */
static void
show(const Failure *why, int64 wait_ms)
{
	if (why->rebuild)
		ps_rebuild_set_state(why->stream_id, "retrying", why->message, hint_of(why));
	else if (why->number >= PS_RELAY_NUMBER(0))
		ps_outbox_set_state(why->stream_id, why->number - PS_RELAY_NUMBER(0), "retrying", why->message, hint_of(why), wait_ms);
	else
		ps_stream_set_state(why->stream_id, "retrying", why->message, hint_of(why), wait_ms);
}

/* A transaction of the starter: says why, or starts what could not run. */
static void
work(const Failure *why, bool start, int64 wait_ms)
{
	PsIdentity	identity;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!ps_launcher_has_extension())
		proc_exit(0);
	identity = ps_become_reading_owner();
	SPI_connect();
	if (start)
		ps_launcher_start_again(why->stream_id, why->number, why->rebuild, why->tries + 1);
	else
		show(why, wait_ms);
	SPI_finish();
	ps_become_caller(identity);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

static void
wait_for_turn(int64 wait_ms)
{
	PsMoment	until = ps_moment_plus(ps_clock_now(), wait_ms);
	int64		left;

	pgstat_report_activity(STATE_IDLE, NULL);
	while ((left = ps_clock_left(until)) > 0)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (!ps_enabled)
			proc_exit(0);		/* the launcher starts everything when they shall run again */
	}
}

/* Without a database: starts the worker again once its database takes connections. */
static void
wait_for_database(const Failure *why, Oid database)
{
	bool		open;

	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	for (int tries = why->tries; ps_launcher_find_database(database, &open); tries++)
	{
		if (open)
		{
			ps_launcher_register_again(database, why->owner, why->stream_id, why->number, why->rebuild);
			break;
		}
		wait_for_turn(ps_failing_wait(tries));
	}
}

void
profile_stream_starter_main(Datum arg)
{
	Failure		why;
	int64		wait_ms;

	memcpy(&why, MyBgworkerEntry->bgw_extra, sizeof(why));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (why.sqlerrcode == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
	{
		wait_for_database(&why, DatumGetObjectId(arg));
		proc_exit(0);
	}
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	ps_session_settings();
	wait_ms = ps_failing_wait(why.tries);
	/* start_streams() may have been called meanwhile: one of us is enough */
	if (!ps_lease_take(why.rebuild ? PS_LEASE_OF_REBUILD(why.stream_id) : why.stream_id, LEASE_OF_STARTER(why.number)))
		proc_exit(0);
	work(&why, false, wait_ms);
	wait_for_turn(wait_ms);
	work(&why, true, 0);
	proc_exit(0);
}
