/*
 * launcher.c
 *	  Starts the enabled streams of every database after a start, a promotion or a
 *	  reload. A database that takes no connections is tried later. The launcher cannot
 *	  connect to several databases, so it runs a short-lived scanner for each of them,
 *	  which starts the workers. The workers then need the launcher no more.
 *
 *	  If library and objects are of different versions, no process works. One scanner
 *	  stays. By the few columns that are alike in all versions it shows in stat_streams
 *	  what is to be done. It starts the streams once that was done. One stays, too, when
 *	  a scan fails: nobody else would start the streams once the reason is gone.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "compat.h"
#include "executor/spi.h"
#include "ingest/launcher.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "process/bgworker.h"
#include "process/lease.h"
#include "process/logged_reasons.h"
#include "process/wait_event.h"
#include "settings.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "store/extension.h"
#include "store/locks.h"
#include "store/outbox.h"
#include "store/owner.h"
#include "store/rebuild_catalog.h"
#include "store/stream_catalog.h"
#include "store/xact.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#define MATCH_MS 2000			/* a scanner looks so often whether ALTER EXTENSION was called */
#define LOOK_MS 10000			/* it looks so often for databases that it has not scanned */

PGDLLEXPORT void profile_stream_launcher_main(Datum arg);
PGDLLEXPORT void profile_stream_scanner_main(Datum arg);

void
ps_launcher_register(void)
{
	BackgroundWorker worker;

	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	ps_bgworker_describe(&worker, "profile_stream launcher", "profile_stream_launcher_main");
	worker.bgw_restart_time = 5;
	RegisterBackgroundWorker(&worker);
}

/*
 * The databases that take connections; the others are added to *closed, unless it is NULL.
 * One whose DROP DATABASE was interrupted is in neither list: it can only be dropped.
 */
static List *
find_databases(MemoryContext context, List **closed)
{
	List	   *databases = NIL;
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;

	ps_transaction_start();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old;

		if (database->datconnlimit == DATCONNLIMIT_INVALID_DB)
			continue;
		old = MemoryContextSwitchTo(context);
		if (database->datallowconn && !database->datistemplate)
			databases = lappend_oid(databases, database->oid);
		else if (closed != NULL)
			*closed = lappend_oid(*closed, database->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	return databases;
}

bool
ps_launcher_find_database(Oid database, bool *open)
{
	List	   *closed = NIL;

	*open = list_member_oid(find_databases(TopMemoryContext, &closed), database);
	return *open || list_member_oid(closed, database);
}

/* Scans one database and waits for the end of it; false when no slot was free. */
static bool
scan_database(Oid database)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	ps_bgworker_describe_scanner(&worker, database);
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return false;
	(void) WaitForBackgroundWorkerShutdown(handle);
	pfree(handle);
	return true;
}

/* Scans the databases that are not scanned yet; returns those that are scanned now. */
static List *
scan_databases(List *databases, List *scanned, MemoryContext context)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, databases)
	{
		Oid			database = lfirst_oid(cell);

		if (list_member_oid(scanned, database) || scan_database(database))
		{
			MemoryContext old = MemoryContextSwitchTo(context);

			result = lappend_oid(result, database);
			MemoryContextSwitchTo(old);
		}
	}
	return result;
}

void
profile_stream_launcher_main(Datum arg)
{
	List	   *scanned = NIL;	/* databases that were scanned since the last reload */
	MemoryContext context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	ps_bgworker_name("launcher", NULL);
	pgstat_report_activity(STATE_IDLE, "wait for databases whose streams are to be started");
	context = AllocSetContextCreate(TopMemoryContext, "profile_stream launcher", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			list_free(scanned);
			scanned = NIL;
		}
		if (ps_enabled)
		{
			List	   *before = scanned;

			/* a database that had no slot or took no connections is tried again the next time */
			MemoryContextSwitchTo(context);
			scanned = scan_databases(find_databases(context, NULL), before, TopMemoryContext);
			list_free(before);
			MemoryContextReset(context);
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | WL_TIMEOUT, LOOK_MS, ps_wait_event(PS_WAIT_DATABASES));
		ResetLatch(MyLatch);
	}
}

/* Starts a worker or relay of a stream in this database; false when no slot is free. */
static bool
start_process(int stream_id, Oid owner, int number, int tries)
{
	PsProcess	process = {MyDatabaseId, owner, number, false, tries};

	return ps_bgworker_start(stream_id, &process);
}

bool
ps_rebuild_register(int stream_id, Oid owner, int tries)
{
	PsProcess	process = {MyDatabaseId, owner, 0, true, tries};

	return ps_bgworker_start(stream_id, &process);
}

/* Starts the worker of a stream's rebuild, if it is to run and does not; returns how many it started. */
static int
start_rebuild_worker(const PsRebuild *rebuild, int tries)
{
	PsStream   *stream;

	if (!rebuild->enabled || rebuild->state == PS_STATE_INCOMPLETE ||
		ps_lease_has_worker(PS_LEASE_OF_REBUILD(rebuild->stream_id), 0))
		return 0;
	stream = ps_stream_find(NULL, rebuild->stream_id);
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(stream->owner)))
	{
		ps_rebuild_set_state(stream->stream_id, PS_STATE_NO_OWNER, ps_stream_no_owner(stream), PS_NEW_OWNER_HINT);
		return 0;
	}
	if (ps_rebuild_register(stream->stream_id, stream->owner, tries))
		return 1;
	ps_rebuild_set_state(stream->stream_id, PS_STATE_NO_WORKER_SLOT, "no background worker slot is free", PS_NO_SLOT_HINT);
	return 0;
}

/* Starts the workers of this database's rebuild that are wanted and do not run, or with a stream_id only its; returns how many. Needs SPI. */
static int
start_rebuild_workers(int stream_id, int tries)
{
	int			started = 0;
	ListCell   *cell;

	foreach(cell, ps_rebuilds())
	{
		const PsRebuild *rebuild = lfirst(cell);

		if (stream_id == 0 || rebuild->stream_id == stream_id)
			started += start_rebuild_worker(rebuild, tries);
	}
	return started;
}

/* Warns that there is no slot for a process. */
static void
complain_of_slot(const PsStream *stream, const char *what)
{
	ereport(WARNING,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("no background worker slot is free for %s of stream \"%s\"", what, stream->name),
			 errhint(PS_NO_SLOT_HINT)));
}

/* Starts the workers of a stream, all or those that do not run; returns how many. */
static int
start_workers(const PsStream *stream, Oid owner, bool all)
{
	int			started = 0;
	int			missing = 0;

	for (int number = 0; number < stream->workers; number++)
	{
		if (!all && ps_lease_has_worker(stream->stream_id, number))
			continue;
		if (start_process(stream->stream_id, owner, number, 0))
		{
			started++;
			continue;
		}
		missing++;
		complain_of_slot(stream, psprintf("worker %d of %d", number + 1, stream->workers));
	}
	if (missing > 0)
		ps_stream_set_state(stream->stream_id, PS_STATE_NO_WORKER_SLOT,
							psprintf("no background worker slot is free for %d of %d workers", missing, stream->workers),
							PS_NO_SLOT_HINT, -1);
	return started;
}

/* Starts the relays of a stream, all or those that do not run. */
static void
start_relays(const PsStream *stream, Oid owner, bool all)
{
	for (int kind = 0; kind < PS_SINK_KINDS; kind++)
	{
		int			number = PS_RELAY_NUMBER(kind);

		if (stream->sinks[kind] == NULL || (!all && ps_lease_has_worker(stream->stream_id, number)) ||
			start_process(stream->stream_id, owner, number, 0))
			continue;
		complain_of_slot(stream, psprintf("the relay of sink \"%s\"", ps_sinks[kind].name));
		ps_outbox_set_state(stream->stream_id, kind, PS_STATE_NO_WORKER_SLOT, "no background worker slot is free for its relay",
							PS_NO_SLOT_HINT, -1);
	}
}

int
ps_workers_start(const PsStream *stream, Oid owner, bool all)
{
	int			started = start_workers(stream, owner, all);

	start_relays(stream, owner, all);
	return started;
}

bool
ps_launcher_has_extension(void)
{
	return OidIsValid(ps_own_schema(true));
}

/* Shows that a stream belongs to another cluster, and logs it once. */
static void
say_foreign(const PsStream *stream)
{
	PsState		state = ps_stream_foreign_state(stream);
	PsStateChange change;

	ps_stream_change_state(stream->stream_id, &state, false, &change);
	if (change.from != state.state)
		ereport(LOG,
				(errmsg("stream \"%s\" is %s: %s", stream->name, ps_state_names[state.state], state.error),
				 errhint("%s", state.hint)));
}

int
ps_launcher_start_streams(void)
{
	int			started = 0;
	ListCell   *cell;

	foreach(cell, ps_streams_enabled())
	{
		int			stream_id = lfirst_int(cell);
		PsStream   *stream = ps_stream_find(NULL, stream_id);

		if (ps_stream_is_foreign(stream))
		{
			say_foreign(stream);
			continue;
		}
		if (SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(stream->owner)))
			started += ps_workers_start(stream, stream->owner, false);
		else
			ps_stream_show_no_owner(stream);
	}
	return started + start_rebuild_workers(0, 0);
}

void
ps_launcher_start_again(int stream_id, int number, bool rebuild, int tries)
{
	PsStream   *stream = ps_stream_find(NULL, stream_id);
	bool		relay = number >= PS_RELAY_NUMBER(0);

	if (stream == NULL || (!rebuild && !stream->enabled))
		return;
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(stream->owner)))
	{
		ps_stream_show_no_owner(stream);
		return;
	}
	if (!rebuild && (relay ? stream->sinks[number - PS_RELAY_NUMBER(0)] == NULL : number >= stream->workers))
		return;
	if (rebuild)
		(void) start_rebuild_workers(stream_id, tries);
	else if (!ps_lease_has_worker(stream_id, number) && !start_process(stream_id, stream->owner, number, tries))
		complain_of_slot(stream, psprintf("worker %d", number));
}

/* Starts the streams of the database; false when library and objects are of different versions. */
static bool
scanner_scan(bool may_wait)
{
	const char *hint;
	char	   *mismatch = NULL;

	ps_transaction_start();
	ps_lock_extension();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (ps_launcher_has_extension())
	{
		PsSavedUser saved;

		if (!may_wait)
			ps_bgworker_end_unless_matched();
		mismatch = ps_extension_mismatch(&hint);
		saved = ps_switch_to_reading_owner();
		SPI_connect();
		if (mismatch == NULL)
			(void) ps_launcher_start_streams();
		else
			ps_streams_cannot_start(mismatch, hint, MATCH_MS);
		SPI_finish();
		ps_restore_user(saved);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	return mismatch == NULL;
}

/*
 * Scans, and returns the time until the next attempt; 0: none is needed. After an error
 * a process that may not wait leaves that to another one. The log gets each reason once.
 */
static int64
scanner_try(bool may_wait)
{
	static PsLoggedReasons logged;
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *error;
	volatile int64 wait_ms = 0;

	PG_TRY();
	{
		wait_ms = scanner_scan(may_wait) ? 0 : MATCH_MS;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		if (!may_wait && !ps_bgworker_start_scanner())
			PG_RE_THROW();
		error = CopyErrorData();
		if (may_wait && ps_reason_is_new(&logged, error->message))
			EmitErrorReport();
		FreeErrorData(error);
		FlushErrorState();
		AbortOutOfAnyTransaction();
		wait_ms = may_wait ? LOOK_MS : 0;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return wait_ms;
}

void
profile_stream_scanner_main(Datum arg)
{
	bool		may_wait = MyBgworkerEntry->bgw_notify_pid == 0;	/* the launcher waits for it */
	int64		wait_ms;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	ps_bgworker_name("scanner", NULL);
	pgstat_report_activity(STATE_RUNNING, "start the streams of this database");
	ps_bgworker_settings();
	if (may_wait && !ps_lease_take(PS_LEASE_SCANNER))
		proc_exit(0);
	while ((wait_ms = scanner_try(may_wait)) > 0)
		ps_bgworker_wait(wait_ms);
	proc_exit(0);
}
