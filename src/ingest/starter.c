/*
 * starter.c
 *	  The process that a worker or a relay starts when it cannot connect: there are
 *	  too many connections, or the database takes none.
 *
 *	  It connects as a superuser and shows in stat_streams why the stream does not run.
 *	  Then it waits, longer each time, starts the worker again, and ends. While the
 *	  database takes no connections, also not its own, it waits without one.
 */
#include "postgres.h"

#include "access/xact.h"
#include "clock.h"
#include "executor/spi.h"
#include "ingest/launcher.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "process/backoff.h"
#include "process/bgworker.h"
#include "process/lease.h"
#include "settings.h"
#include "storage/ipc.h"
#include "store/locks.h"
#include "store/outbox.h"
#include "store/owner.h"
#include "store/rebuild_catalog.h"
#include "store/xact.h"
#include "tcop/tcopprot.h"
#include "utils/snapmgr.h"

#define LEASE_OF_STARTER(number) (0x80000000 + (uint32) (number))	/* not the number of a partition or a worker */

PGDLLEXPORT void profile_stream_starter_main(Datum arg);

/* What the user can do about it. */
static const char *
hint_of(const PsConnectFailure *why)
{
	switch (why->sqlerrcode)
	{
		case ERRCODE_TOO_MANY_CONNECTIONS:
			return "Raise the limit of connections, or end some connections.";
		default:
			return "See the server's log.";
	}
}

/* Shows why the stream, its rebuild or its sink does not run, and when it is tried again. */
static void
starter_show(const PsConnectFailure *why, int64 wait_ms)
{
	if (why->rebuild)
		ps_rebuild_set_state(why->stream_id, PS_STATE_RETRYING, why->message, hint_of(why));
	else if (why->number >= PS_RELAY_NUMBER(0))
		ps_outbox_set_state(why->stream_id, why->number - PS_RELAY_NUMBER(0), PS_STATE_RETRYING, why->message, hint_of(why), wait_ms);
	else
		ps_stream_set_state(why->stream_id, PS_STATE_RETRYING, why->message, hint_of(why), wait_ms);
}

/* One transaction: shows why the process does not run, or starts it again. */
static void
starter_work(const PsConnectFailure *why, bool start, int64 wait_ms)
{
	PsSavedUser saved;

	ps_transaction_start();
	ps_lock_extension();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!ps_launcher_has_extension())
		proc_exit(0);
	ps_bgworker_end_unless_matched();
	saved = ps_switch_to_reading_owner();
	SPI_connect();
	if (start)
		ps_launcher_start_again(why->stream_id, why->number, why->rebuild, why->tries + 1);
	else
		starter_show(why, wait_ms);
	SPI_finish();
	ps_restore_user(saved);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * Without a database: starts the worker again once its database takes connections. It
 * waits before each start, longer each time, because the database may refuse for another
 * reason than the one that it looks for.
 */
static void
wait_for_database(const PsConnectFailure *why, Oid database)
{
	bool		open;

	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	ps_bgworker_name("starter", NULL);
	for (int tries = why->tries; ps_launcher_find_database(database, &open); tries++)
	{
		PsProcess	process = {database, why->owner, why->number, why->rebuild, tries};

		if (open && tries > why->tries && ps_bgworker_start(why->stream_id, &process))
			break;
		ps_bgworker_wait(ps_backoff_ms(tries));
	}
}

void
profile_stream_starter_main(Datum arg)
{
	PsConnectFailure why;
	int64		wait_ms;
	int			lease;

	memcpy(&why, MyBgworkerEntry->bgw_extra, sizeof(why));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (why.sqlerrcode == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
	{
		wait_for_database(&why, DatumGetObjectId(arg));
		proc_exit(0);
	}
	ps_bgworker_connect_starter(DatumGetObjectId(arg), &why);
	ps_bgworker_name("starter", NULL);
	wait_ms = ps_backoff_ms(why.tries);
	/* start_streams() may have started another starter meanwhile: one is enough */
	lease = why.rebuild ? PS_LEASE_OF_REBUILD(why.stream_id) : why.stream_id;
	if (!ps_lease_take(lease, LEASE_OF_STARTER(why.number)))
		proc_exit(0);
	starter_work(&why, false, wait_ms);
	ps_bgworker_wait(wait_ms);
	/* before the start: if that fails soon, the next starter would take this one for one that waits, and end */
	ps_lease_release(lease, LEASE_OF_STARTER(why.number));
	starter_work(&why, true, 0);
	proc_exit(0);
}
