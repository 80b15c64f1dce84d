/*
 * rebuild.c
 *	  The functions that control a rebuild: rebuild(), pause_rebuild(), resume_rebuild(),
 *	  rebuild_diff(), swap_rebuild() and cancel_rebuild().
 *
 *	  A rebuild reads the topic from the start into a second copy of the tables, in the
 *	  rebuild schema. The swap replaces the profiles by that copy in one transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/caller.h"
#include "apply/notify.h"
#include "clock.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "ingest/launcher.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "process/lease.h"
#include "settings.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "store/live_catalog.h"
#include "store/lock_wait.h"
#include "store/locks.h"
#include "store/rebuild_catalog.h"
#include "store/rebuild_schema.h"
#include "store/segment_catalog.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#define MAX_LOCKED_MS 60000		/* events wait at most so long while the rebuild catches up */

/* Raises when the database has a rebuild already: it has room for one. */
static void
check_none(void)
{
	PsRebuild  *rebuild = ps_rebuild_find();

	if (rebuild != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("a rebuild of stream \"%s\" is under way", rebuild->stream),
				 errhint("See profile_stream.stat_rebuilds; swap_rebuild() or cancel_rebuild() ends it.")));
}

/* Raises when other streams feed the profiles, too: the rebuilt ones would lack their events. */
static void
check_alone(const PsStream *stream)
{
	char	   *other = ps_rebuild_other_stream(stream->stream_id);

	if (other != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("profiles are fed by stream \"%s\" too", other),
				 errhint("A rebuild replaces all profiles by those of one stream. Drop the other streams, or give each a database of its own.")));
}

/* Finds the stream and its rebuild, or raises. */
static PsStream *
find_rebuild(text *name)
{
	PsStream   *stream = ps_find_stream(name, true);
	PsRebuild  *rebuild = ps_rebuild_find();

	if (rebuild == NULL || rebuild->stream_id != stream->stream_id)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no rebuild of stream \"%s\" is under way", stream->name),
				 errhint("SELECT profile_stream.rebuild(...) begins one.")));
	return stream;
}

/* Lets the rebuild's worker start when this transaction commits. */
static void
start_at_commit(const PsStream *stream)
{
	ps_check_slots(stream, 1);
	ps_lease_hold_back(PS_LEASE_OF_REBUILD(stream->stream_id));
	if (!ps_rebuild_register(stream->stream_id, ps_stream_owner(stream), 0))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no background worker slot is free for the rebuild of stream \"%s\"", stream->name),
				 errhint("Raise max_worker_processes.")));
}

static Datum
start_rebuild(PG_FUNCTION_ARGS)
{
	PsStream   *stream;

	PreventCommandIfReadOnly("rebuild()");
	SPI_connect();
	stream = ps_find_stream(PG_GETARG_TEXT_PP(0), true);
	check_none();
	check_alone(stream);
	ps_lock_copy(true, AccessExclusiveLock);
	check_none();				/* another session may have begun one during the wait */
	ps_rebuild_add(stream->stream_id, PG_GETARG_BOOL(1));
	start_at_commit(stream);
	SPI_finish();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_rebuild_start);
Datum
ps_rebuild_start(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, start_rebuild, "rebuild()", PS_SESSION_WAIT_MS);
}

/* Pauses or resumes a rebuild. */
static void
enable_rebuild(text *name, bool enabled)
{
	PsStream   *stream;

	SPI_connect();
	stream = find_rebuild(name);
	ps_lease_hold_back(PS_LEASE_OF_REBUILD(stream->stream_id));
	ps_rebuild_enable(stream->stream_id, enabled);
	if (enabled)
		start_at_commit(stream);
	SPI_finish();
}

static Datum
pause_rebuild(PG_FUNCTION_ARGS)
{
	enable_rebuild(PG_GETARG_TEXT_PP(0), false);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_rebuild_pause);
Datum
ps_rebuild_pause(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, pause_rebuild, "pause_rebuild()", PS_SESSION_WAIT_MS);
}

static Datum
resume_rebuild(PG_FUNCTION_ARGS)
{
	enable_rebuild(PG_GETARG_TEXT_PP(0), true);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_rebuild_resume);
Datum
ps_rebuild_resume(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, resume_rebuild, "resume_rebuild()", PS_SESSION_WAIT_MS);
}

static Datum
cancel_rebuild(PG_FUNCTION_ARGS)
{
	PsStream   *stream;

	SPI_connect();
	stream = find_rebuild(PG_GETARG_TEXT_PP(0));
	ps_lease_hold_back(PS_LEASE_OF_REBUILD(stream->stream_id));
	ps_rebuild_end();
	SPI_finish();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_rebuild_cancel);
Datum
ps_rebuild_cancel(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, cancel_rebuild, "cancel_rebuild()", PS_SESSION_WAIT_MS);
}

PG_FUNCTION_INFO_V1(ps_rebuild_diff);
Datum
ps_rebuild_diff(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			max_rows = PG_GETARG_INT32(1);
	PsStream   *stream;
	int64		apart;
	uint64		n;

	ps_check_argument(max_rows >= 0, "max_rows must not be negative");
	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	stream = find_rebuild(PG_GETARG_TEXT_PP(0));
	apart = ps_rebuild_apart(stream->stream_id);
	if (apart > 0)
		ereport(NOTICE,
				(errmsg("the stream and its rebuild are " INT64_FORMAT " messages apart", apart),
				 errdetail("Profiles may differ by events of these messages alone.")));
	n = ps_rebuild_select_diff(max_rows);
	for (uint64 i = 0; i < n; i++)
		tuplestore_puttuple(rsinfo->setResult, SPI_tuptable->vals[i]);
	SPI_finish();
	return (Datum) 0;
}

/* Raises unless the rebuild can be swapped in. */
static void
check_ready(const PsStream *stream)
{
	bool		ready;
	char	   *state = ps_rebuild_describe(&ready);

	if (!ready)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the rebuild of stream \"%s\" is not ready", stream->name),
				 errdetail("Its state is %s.", state),
				 errhint("Wait until profile_stream.stat_rebuilds says ready.")));
}

/* Waits until the rebuild has read every message that the stream has applied. */
static void
wait_for_rebuild(const PsStream *stream, PsMoment deadline)
{
	int64		behind;

	for (long pause = 2; (behind = ps_rebuild_behind(stream->stream_id)) > 0; pause = Min(50, pause * 2))
	{
		bool		ready;

		CHECK_FOR_INTERRUPTS();
		if (ps_clock_now() >= deadline)
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("the rebuild of stream \"%s\" did not catch up in time", stream->name),
					 errdetail("It is " INT64_FORMAT " messages behind the stream; its state is %s.",
							   behind, ps_rebuild_describe(&ready)),
					 errhint("See profile_stream.stat_rebuilds. Pass a longer timeout when the rebuild only lags. pause_rebuild() and resume_rebuild() apply events that it holds for reorder_wait.")));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pause, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

/* Locks both copies of the tables at the same point of the topic, so that nothing is lost in the swap. */
static void
lock_copies(const PsStream *stream, PsMoment deadline)
{
	int			nest_level = NewGUCNestLevel();
	int			left = (int) Max(1, Min(INT_MAX, (deadline - ps_clock_now()) / 1000));

	if (LockTimeout == 0 || LockTimeout > left)
		(void) set_config_option("lock_timeout", psprintf("%d", left), PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	ps_lock_copy(false, ShareRowExclusiveLock);
	wait_for_rebuild(stream, Min(deadline, ps_moment_plus(ps_clock_now(), MAX_LOCKED_MS)));
	ps_lock_copy(true, AccessExclusiveLock);
	AtEOXact_GUC(true, nest_level);
}

static Datum
swap_rebuild(PG_FUNCTION_ARGS)
{
	PsMoment	deadline = ps_clock_now() + ps_interval_us(PG_GETARG_INTERVAL_P(1));
	PsStream   *stream;
	int64		changed;

	PreventCommandIfReadOnly("swap_rebuild()");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("swap_rebuild() must run in a READ COMMITTED transaction")));
	SPI_connect();
	stream = find_rebuild(PG_GETARG_TEXT_PP(0));
	check_ready(stream);
	check_alone(stream);
	wait_for_rebuild(stream, deadline); /* first without locks: events are still applied meanwhile */
	lock_copies(stream, deadline);
	check_ready(stream);
	check_alone(stream);
	changed = ps_rebuild_bring(stream->stream_id);
	ps_segment_renew(NULL);
	ps_live_checks_add_gone();
	ps_rebuild_end();
	if (strcmp(stream->notify, "off") != 0)
		ps_notify_rebuilt(stream->channel, stream->name, changed);
	SPI_finish();
	PG_RETURN_INT64(changed);
}

PG_FUNCTION_INFO_V1(ps_rebuild_swap);
Datum
ps_rebuild_swap(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, swap_rebuild, "swap_rebuild()", ps_interval_us(PG_GETARG_INTERVAL_P(1)) / 1000);
}
