/*
 * launcher.c
 *	  The launcher visits every database once after start, promotion or reload: a
 *	  short-lived scanner connects to it and starts its enabled streams. Workers
 *	  then live by themselves; the launcher sleeps.
 */
#include "postgres.h"

#include <signal.h>

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "executor/spi.h"
#include "ingest/launcher.h"
#include "ingest/lease.h"
#include "ingest/rebuild.h"
#include "ingest/relay.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "store/outbox.h"
#include "store/owner.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

PGDLLEXPORT void profile_stream_launcher_main(Datum arg);
PGDLLEXPORT void profile_stream_scanner_main(Datum arg);

/* Fills what launcher and scanner have in common. */
static void
describe_worker(BackgroundWorker *worker, const char *what, const char *function)
{
	memset(worker, 0, sizeof(BackgroundWorker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "profile_stream", BGW_MAXLEN);
	strlcpy(worker->bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker->bgw_name, what, BGW_MAXLEN);
	strlcpy(worker->bgw_type, what, BGW_MAXLEN);
}

void
ps_launcher_register(void)
{
	BackgroundWorker worker;

	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	describe_worker(&worker, "profile_stream launcher", "profile_stream_launcher_main");
	worker.bgw_restart_time = 5;
	RegisterBackgroundWorker(&worker);
}

/* Databases that take connections. */
static List *
connectable_databases(MemoryContext context)
{
	List	   *databases = NIL;
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old = MemoryContextSwitchTo(context);

		if (database->datallowconn && !database->datistemplate)
			databases = lappend_oid(databases, database->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	return databases;
}

/* Scans one database and waits until that is done; false when no slot was free. */
static bool
scan_database(Oid database)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	describe_worker(&worker, "profile_stream scanner", "profile_stream_scanner_main");
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return false;
	(void) WaitForBackgroundWorkerShutdown(handle);
	pfree(handle);
	return true;
}

void
profile_stream_launcher_main(Datum arg)
{
	bool		scan = true;
	MemoryContext context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	context = AllocSetContextCreate(TopMemoryContext, "profile_stream launcher", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			scan = true;
		}
		if (scan && ps_enabled)
		{
			ListCell   *cell;

			scan = false;
			MemoryContextSwitchTo(context);
			foreach(cell, connectable_databases(context))
			{
				if (!scan_database(lfirst_oid(cell)))
					scan = true;	/* again when a slot may be free */
			}
			MemoryContextReset(context);
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (scan ? WL_TIMEOUT : 0), 10000, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

/* Registers a worker of a stream, one of its relays, or its rebuild's worker; false when no slot is free. */
static bool
register_worker(int stream_id, Oid owner, int number, bool rebuild)
{
	bool		relay = number >= PS_RELAY_NUMBER(0);
	BackgroundWorker worker;
	Oid			where[4] = {MyDatabaseId, owner, (Oid) number, rebuild};

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "profile_stream", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, relay ? "profile_stream_relay_main" : "profile_stream_worker_main", BGW_MAXLEN);
	strlcpy(worker.bgw_type, rebuild ? "profile_stream rebuild" : relay ? "profile_stream relay" : "profile_stream worker", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "%s %d for stream %d", worker.bgw_type, number, stream_id);
	worker.bgw_main_arg = Int32GetDatum(stream_id);
	memcpy(worker.bgw_extra, where, sizeof(where));
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

bool
ps_rebuild_register(int stream_id, Oid owner)
{
	return register_worker(stream_id, owner, 0, true);
}

/* Records that there is no slot for a process; why it is missing is seen where that process would be. */
static void
complain_of_slot(const PsStream *stream, const char *what)
{
	ereport(WARNING,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("no background worker slot is free for %s of stream \"%s\"", what, stream->name),
			 errhint(PS_NO_SLOT_HINT)));
}

/* Starts the workers, or those that do not run; returns how many. */
static int
start_workers(const PsStream *stream, Oid owner, bool all)
{
	int			started = 0;
	int			missing = 0;

	for (int number = 0; number < stream->workers; number++)
	{
		if (!all && ps_lease_has_worker(stream->stream_id, number))
			continue;
		if (register_worker(stream->stream_id, owner, number, false))
		{
			started++;
			continue;
		}
		missing++;
		complain_of_slot(stream, psprintf("worker %d of %d", number + 1, stream->workers));
	}
	if (missing > 0)
		ps_stream_set_state(stream->stream_id, "no_worker_slot",
							psprintf("no background worker slot is free for %d of %d workers", missing, stream->workers),
							PS_NO_SLOT_HINT, -1);
	return started;
}

/* The same for its relays. */
static void
start_relays(const PsStream *stream, Oid owner, bool all)
{
	for (int kind = 0; kind < PS_SINK_KINDS; kind++)
	{
		int			number = PS_RELAY_NUMBER(kind);

		if (stream->sinks[kind] == NULL || (!all && ps_lease_has_worker(stream->stream_id, number)) ||
			register_worker(stream->stream_id, owner, number, false))
			continue;
		complain_of_slot(stream, psprintf("the relay of sink \"%s\"", ps_sink_names[kind]));
		ps_outbox_set_state(stream->stream_id, kind, "no_worker_slot", "no background worker slot is free for its relay",
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

void
ps_workers_complain_of_owner(const PsStream *stream)
{
	PsIdentity	identity = ps_become_owner();

	ps_stream_set_state(stream->stream_id, "no_owner", ps_stream_no_owner(stream), PS_NEW_OWNER_HINT, -1);
	for (int kind = 0; kind < PS_SINK_KINDS; kind++)
		if (stream->sinks[kind] != NULL)
			ps_outbox_set_state(stream->stream_id, kind, "no_owner", ps_stream_no_owner(stream), PS_NEW_OWNER_HINT, -1);
	ps_become_caller(identity);
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

		if (SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(stream->owner)))
			started += ps_workers_start(stream, stream->owner, false);
		else
			ps_workers_complain_of_owner(stream);
	}
	return started + ps_rebuild_start_worker();
}

void
profile_stream_scanner_main(Datum arg)
{
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	SetConfigOption("search_path", "", PGC_USERSET, PGC_S_SESSION);

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (OidIsValid(ps_own_schema(true)))
	{
		PsIdentity	identity = ps_become_reading_owner();

		SPI_connect();
		(void) ps_launcher_start_streams();
		SPI_finish();
		ps_become_caller(identity);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	proc_exit(0);
}
