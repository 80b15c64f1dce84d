/*
 * bgworker.c
 *	  Registers background workers, and connects them to their database.
 *
 *	  A worker takes the rights of its role without a login. So a role can have streams
 *	  also without LOGIN, without CONNECT, or when its connection limit is reached.
 *
 *	  A worker that cannot connect cannot write why, and the postmaster would start it
 *	  again every second. So it ends for good, and a starter writes the error instead.
 */
#include "postgres.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "access/xact.h"
#include "clock.h"
#include "common/pg_prng.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "process/bgworker.h"
#include "process/wait_event.h"
#include "settings.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "store/extension.h"
#include "store/owner.h"
#include "store/stream_catalog.h"
#include "store/xact.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/syscache.h"

#define STARTER_S 10			/* until a starter that failed, or could not be forked, begins anew */
#define FRESH_S 10				/* a failure later after the registration is the first of a new row */

StaticAssertDecl(sizeof(PsConnectFailure) <= BGW_EXTRALEN, "PsConnectFailure must fit into bgw_extra");
StaticAssertDecl(sizeof(PsProcess) <= BGW_EXTRALEN, "PsProcess must fit into bgw_extra");

static PsConnectFailure failure;	/* message empty: none */
static Oid	database_to_connect = InvalidOid;
static bool is_starter = false;

void
ps_bgworker_describe(BackgroundWorker *worker, const char *type, const char *function)
{
	memset(worker, 0, sizeof(BackgroundWorker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "profile_stream", BGW_MAXLEN);
	strlcpy(worker->bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker->bgw_name, type, BGW_MAXLEN);
	strlcpy(worker->bgw_type, type, BGW_MAXLEN);
}

void
ps_bgworker_describe_scanner(BackgroundWorker *worker, Oid database)
{
	ps_bgworker_describe(worker, "profile_stream scanner", "profile_stream_scanner_main");
	worker->bgw_main_arg = ObjectIdGetDatum(database);
}

bool
ps_bgworker_start(int stream_id, const PsProcess *process)
{
	bool		relay = process->number >= PS_RELAY_NUMBER(0);
	PsProcess	started = *process;
	BackgroundWorker worker;

	started.registered_at = (int) time(NULL);
	started.registration = (int64) pg_prng_uint64(&pg_global_prng_state);
	ps_bgworker_describe(&worker,
						 process->rebuild ? "profile_stream rebuild" : relay ? "profile_stream relay" : "profile_stream worker",
						 relay ? "profile_stream_relay_main" : "profile_stream_worker_main");
	worker.bgw_restart_time = 1;
	snprintf(worker.bgw_name, BGW_MAXLEN, "%s %d for stream %d", worker.bgw_type, process->number, stream_id);
	worker.bgw_main_arg = Int32GetDatum(stream_id);
	memcpy(worker.bgw_extra, &started, sizeof(started));
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

PsProcess
ps_bgworker_process(void)
{
	PsProcess	process;

	memcpy(&process, MyBgworkerEntry->bgw_extra, sizeof(process));
	return process;
}

/* A log hook: notes the error with which this process ends. */
static void
note_fatal(ErrorData *error)
{
	if (error->elevel < FATAL || error->message == NULL || failure.message[0] != '\0' ||
		ERRCODE_TO_CATEGORY(error->sqlerrcode) == MAKE_SQLSTATE('5', '7', '0', '0', '0'))	/* it was told to end */
		return;
	failure.sqlerrcode = error->sqlerrcode;
	strlcpy(failure.message, error->message, sizeof(failure.message));
}

/* Registers a starter that has the error, before this process ends. */
static void
leave_to_starter(int code, Datum arg)
{
	BackgroundWorker worker;

	if (failure.message[0] == '\0' || failure.sqlerrcode == ERRCODE_UNDEFINED_DATABASE)
		return;
	/* nor can a starter connect: the next one waits without a database, and does not show why */
	if (is_starter)
		failure.sqlerrcode = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
	ps_bgworker_describe(&worker, "profile_stream starter", "profile_stream_starter_main");
	worker.bgw_restart_time = STARTER_S;
	worker.bgw_main_arg = ObjectIdGetDatum(database_to_connect);
	memcpy(worker.bgw_extra, &failure, sizeof(failure));
	if (!RegisterDynamicBackgroundWorker(&worker, NULL))
		failure.message[0] = '\0';	/* without a free slot nobody else would: the postmaster starts this process again */
}

/* Ends with status 0, so that the postmaster does not start the process again. */
static void
exit_for_good(int code, Datum arg)
{
	if (failure.message[0] != '\0')
		_exit(0);
}

/* Shows the owner in pg_stat_activity, and lets him cancel the process. */
static void
show_owner(Oid owner)
{
	volatile	PgBackendStatus *entry = MyBEEntry;

	PGSTAT_BEGIN_WRITE_ACTIVITY(entry);
	entry->st_userid = owner;
	PGSTAT_END_WRITE_ACTIVITY(entry);
	MyProc->roleId = owner;
}

/* Takes the rights of a role; false when it is gone. */
static bool
bgworker_become(Oid owner)
{
	bool		exists;

	ps_transaction_start();
	exists = SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(owner));
	if (exists)
		SetSessionAuthorization(owner, superuser_arg(owner));
	CommitTransactionCommand();
	if (exists)
		show_owner(owner);
	return exists;
}

const char *
ps_bgworker_process_name(int number)
{
	return number >= PS_RELAY_NUMBER(0) ? ps_sinks[number - PS_RELAY_NUMBER(0)].name : psprintf("worker %d", number);
}

void
ps_bgworker_name(const char *what, const char *stream)
{
	char		name[NAMEDATALEN + 64];

	snprintf(name, sizeof(name), "profile_stream%s%s%s%s", what[0] != '\0' ? " " : "", what,
			 stream != NULL ? ": " : "", stream != NULL ? stream : "");
	SetConfigOption("application_name", name, PGC_USERSET, PGC_S_SESSION);
}

void
ps_bgworker_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_deferrable", "off"},
		{"role", "none"},		/* that of ALTER DATABASE would stay in force over the stream's owner */
		PS_WORKER_SETTINGS
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION);
}

/* Connects to a database. If that fails, a starter goes on with what failure tells, and this process ends for good. */
static void
connect_or_leave(Oid database)
{
	emit_log_hook_type log_hook = emit_log_hook;

	database_to_connect = database;
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	emit_log_hook = note_fatal;
	before_shmem_exit(leave_to_starter, (Datum) 0);
	on_proc_exit(exit_for_good, (Datum) 0);
	BackgroundWorkerUnblockSignals();
	if (!is_starter)
		PS_FAILPOINT("connect");
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	emit_log_hook = log_hook;
	failure.message[0] = '\0';
	ps_bgworker_settings();
}

bool
ps_bgworker_connect(Oid database, Oid owner)
{
	PsProcess	process = ps_bgworker_process();

	failure.stream_id = DatumGetInt32(MyBgworkerEntry->bgw_main_arg);
	failure.number = process.number;
	failure.rebuild = process.rebuild;
	/* a process that ran for days begins a new row of failures */
	failure.tries = (int) time(NULL) - process.registered_at < FRESH_S ? process.tries : 0;
	failure.owner = owner;
	connect_or_leave(database);
	return bgworker_become(owner);
}

void
ps_bgworker_connect_starter(Oid database, const PsConnectFailure *why)
{
	is_starter = true;
	failure = *why;
	failure.message[0] = '\0';
	connect_or_leave(database);
}

bool
ps_bgworker_start_scanner(void)
{
	BackgroundWorker worker;

	ps_bgworker_describe_scanner(&worker, MyDatabaseId);
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

void
ps_bgworker_end_unless_matched(void)
{
	const char *hint;

	if (ps_extension_mismatch(&hint) == NULL)
		return;
	if (!ps_bgworker_start_scanner())
		ps_extension_check();
	proc_exit(0);
}

void
ps_bgworker_wait(int64 wait_ms)
{
	PsMoment	until = ps_moment_plus(ps_clock_now(), wait_ms);
	int64		left;

	pgstat_report_activity(STATE_IDLE, "wait for the next attempt");
	while ((left = ps_clock_left(until)) > 0)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left, ps_wait_event(PS_WAIT_NEXT_ATTEMPT));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (!ps_enabled)
			proc_exit(0);
	}
}

void
ps_bgworker_end_if_ownerless(Oid owner, int stream_id)
{
	PsStream   *stream;
	bool		exists;

	ps_transaction_start();
	exists = SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(owner));
	if (!exists && OidIsValid(ps_own_schema(true)))
	{
		ps_spi_begin();
		stream = ps_stream_find(NULL, stream_id);
		if (stream != NULL && !SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(stream->owner)))
			ps_stream_show_no_owner(stream);
		ps_spi_end();
	}
	CommitTransactionCommand();
	if (!exists)
		proc_exit(0);			/* for good: its OID does not come back */
}
