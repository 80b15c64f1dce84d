/*
 * rebuild.c
 *	  The functions that control a rebuild: rebuild(), pause_rebuild(), resume_rebuild(),
 *	  rebuild_diff(), swap_rebuild() and cancel_rebuild().
 *
 *	  A rebuild reads the topics of all streams from the start into a second copy of the
 *	  tables, in the rebuild schema. Each stream has a worker of its own for that. The swap
 *	  replaces the profiles by that copy in one transaction.
 */
#include "postgres.h"

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
#include "process/wait_event.h"
#include "settings.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "store/extension.h"
#include "store/live_catalog.h"
#include "store/lock_wait.h"
#include "store/locks.h"
#include "store/rebuild_catalog.h"
#include "store/rebuild_schema.h"
#include "store/segment_catalog.h"
#include "store/xact.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#define MAX_LOCKED_MS 60000		/* events wait at most so long while the rebuild catches up */

/* Raises when the database has a rebuild already: it has room for one. */
static void
check_none(void)
{
	PsRebuild  *rebuild = ps_rebuild_find(0);

	if (rebuild != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("a rebuild of stream \"%s\" is under way", rebuild->stream),
				 errhint("See profile_stream.stat_rebuilds; swap_rebuild() or cancel_rebuild() ends it.")));
}

/* Raises when a stream feeds the profiles that is not rebuilt: the rebuilt ones would lack its events. */
static void
check_complete(void)
{
	char	   *other = ps_rebuild_other_stream();

	if (other != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("profiles are fed by stream \"%s\" too", other),
				 errhint("It was created after the rebuild began. Call cancel_rebuild() and rebuild(), which takes all streams, or drop that stream.")));
}

/* Finds the rebuild, to which the stream belongs, or raises. Returns the streams (PsStream), the one of that name first. */
static List *
find_rebuild(text *name)
{
	PsStream   *stream = ps_find_stream(name, true);
	List	   *streams = list_make1(stream);
	ListCell   *cell;

	if (ps_rebuild_find(stream->stream_id) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no rebuild of stream \"%s\" is under way", stream->name),
				 errhint("SELECT profile_stream.rebuild(...) begins one.")));
	foreach(cell, ps_rebuilds())
	{
		const PsRebuild *rebuild = lfirst(cell);

		if (rebuild->stream_id != stream->stream_id)
			streams = lappend(streams, ps_find_stream(cstring_to_text(rebuild->stream), true));
	}
	return streams;
}

/* Lets the workers of the rebuild start when this transaction commits. */
static void
start_at_commit(List *streams)
{
	ListCell   *cell;

	foreach(cell, streams)
	{
		const PsStream *stream = lfirst(cell);

		ps_check_slots(stream, list_length(streams));
		ps_lease_hold_back(PS_LEASE_OF_REBUILD(stream->stream_id));
		if (!ps_rebuild_register(stream->stream_id, ps_stream_owner(stream), 0))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					 errmsg("no background worker slot is free for the rebuild of stream \"%s\"", stream->name),
					 errhint("Raise max_worker_processes and restart the server.")));
	}
}

/* Notes what was done to the rebuild of each of its streams. */
static void
log_action(List *streams, const char *action)
{
	ListCell   *cell;

	foreach(cell, streams)
		ps_state_log_action(((PsStream *) lfirst(cell))->name, "rebuild", action, NULL);
}

/* Adds the stream of that name to the rebuild, and then all others; returns them. The caller must own each. */
static List *
add_streams(text *name, bool allow_missing)
{
	PsStream   *stream = ps_find_stream(name, true);
	List	   *streams = list_make1(stream);
	char	   *other;

	ps_rebuild_end();
	ps_rebuild_add(stream->stream_id, allow_missing);
	while ((other = ps_rebuild_other_stream()) != NULL)
	{
		stream = ps_find_stream(cstring_to_text(other), true);
		ps_rebuild_add(stream->stream_id, allow_missing);
		streams = lappend(streams, stream);
	}
	return streams;
}

static Datum
start_rebuild(PG_FUNCTION_ARGS)
{
	List	   *streams;

	PreventCommandIfReadOnly("rebuild()");
	SPI_connect();
	(void) ps_find_stream(PG_GETARG_TEXT_PP(0), true);
	check_none();
	ps_lock_copy(true, AccessExclusiveLock);
	check_none();				/* another session may have begun one during the wait */
	streams = add_streams(PG_GETARG_TEXT_PP(0), PG_GETARG_BOOL(1));
	log_action(streams, "started");
	start_at_commit(streams);
	SPI_finish();
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_rebuild_start);
static Datum
ps_rebuild_start_checked(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, start_rebuild, "rebuild()", PS_SESSION_WAIT_MS);
}

/* Pauses or resumes a rebuild. */
static void
enable_rebuild(text *name, bool enabled)
{
	List	   *streams;
	ListCell   *cell;

	SPI_connect();
	streams = find_rebuild(name);
	foreach(cell, streams)
	{
		int			stream_id = ((PsStream *) lfirst(cell))->stream_id;

		ps_lease_hold_back(PS_LEASE_OF_REBUILD(stream_id));
		ps_rebuild_enable(stream_id, enabled);
	}
	log_action(streams, enabled ? "resumed" : "paused");
	if (enabled)
		start_at_commit(streams);
	SPI_finish();
}

static Datum
pause_rebuild(PG_FUNCTION_ARGS)
{
	enable_rebuild(PG_GETARG_TEXT_PP(0), false);
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_rebuild_pause);
static Datum
ps_rebuild_pause_checked(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, pause_rebuild, "pause_rebuild()", PS_SESSION_WAIT_MS);
}

static Datum
resume_rebuild(PG_FUNCTION_ARGS)
{
	enable_rebuild(PG_GETARG_TEXT_PP(0), true);
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_rebuild_resume);
static Datum
ps_rebuild_resume_checked(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, resume_rebuild, "resume_rebuild()", PS_SESSION_WAIT_MS);
}

static Datum
cancel_rebuild(PG_FUNCTION_ARGS)
{
	List	   *streams;
	ListCell   *cell;

	SPI_connect();
	streams = find_rebuild(PG_GETARG_TEXT_PP(0));
	foreach(cell, streams)
		ps_lease_hold_back(PS_LEASE_OF_REBUILD(((PsStream *) lfirst(cell))->stream_id));
	ps_rebuild_end();
	log_action(streams, "cancelled");
	SPI_finish();
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_rebuild_cancel);
static Datum
ps_rebuild_cancel_checked(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, cancel_rebuild, "cancel_rebuild()", PS_SESSION_WAIT_MS);
}

PS_FUNCTION(ps_rebuild_diff);
static Datum
ps_rebuild_diff_checked(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			max_rows = PG_GETARG_INT32(1);
	int64		apart = 0;
	uint64		n;
	ListCell   *cell;

	ps_check_argument(max_rows >= 0, "max_rows must not be negative");
	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	foreach(cell, find_rebuild(PG_GETARG_TEXT_PP(0)))
		apart += ps_rebuild_apart(((PsStream *) lfirst(cell))->stream_id);
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
check_ready(const PsStream *named)
{
	PsRebuildState state = ps_rebuild_state();

	if (!state.ready)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the rebuild of stream \"%s\" is not ready", state.stream ? state.stream : named->name),
				 errdetail("Its state is %s.", state.state),
				 errhint("Wait until profile_stream.stat_rebuilds says ready. cancel_rebuild() gives it up.")));
}

/* How many messages the streams have applied and the rebuild has not, and a stream that has. Raises when it never will. */
static int64
messages_behind(List *streams, const PsStream **behind_of)
{
	int64		behind = 0;
	ListCell   *cell;

	foreach(cell, streams)
	{
		const PsStream *stream = lfirst(cell);
		char	   *left;
		int64		messages = ps_rebuild_behind(stream->stream_id, &left);

		if (left != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the rebuild of stream \"%s\" lacks messages of %s, which the stream does not read any more", stream->name, left),
					 errhint("Let the stream read it again with alter_stream(). Or call cancel_rebuild(), and rebuild(name, allow_missing => true), which builds without it.")));
		if (messages > 0)
			*behind_of = stream;
		behind += messages;
	}
	return behind;
}

/* Waits until the rebuild has read every message that the streams have applied. */
static void
wait_for_rebuild(List *streams, PsMoment deadline)
{
	const PsStream *stream = NULL;
	int64		behind;

	for (long pause = 2; (behind = messages_behind(streams, &stream)) > 0; pause = Min(50, pause * 2))
	{
		CHECK_FOR_INTERRUPTS();
		if (ps_clock_now() >= deadline)
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("the rebuild of stream \"%s\" did not catch up in time", stream->name),
					 errdetail("It is " INT64_FORMAT " messages behind the stream; its state is %s.",
							   behind, ps_rebuild_state().state),
					 errhint("See profile_stream.stat_rebuilds. Pass a longer timeout when the rebuild only lags. pause_rebuild() and resume_rebuild() apply events that it holds for reorder_wait. cancel_rebuild() gives it up.")));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pause, ps_wait_event(PS_WAIT_STREAM));
		ResetLatch(MyLatch);
	}
}

/* Locks both copies of the tables at the same point of the topic, so that nothing is lost in the swap. */
static void
lock_copies(List *streams, PsMoment deadline)
{
	int			nest_level = NewGUCNestLevel();
	int			left = (int) Max(1, Min(INT_MAX, (deadline - ps_clock_now()) / 1000));

	if (LockTimeout == 0 || LockTimeout > left)
		ps_guc_set_nested("lock_timeout", psprintf("%d", left));
	ps_lock_copy(false, ShareRowExclusiveLock);
	wait_for_rebuild(streams, Min(deadline, ps_moment_plus(ps_clock_now(), MAX_LOCKED_MS)));
	ps_lock_copy(true, AccessExclusiveLock);
	AtEOXact_GUC(true, nest_level);
}

/* Tells the listeners of each stream: all streams feed the profiles that changed. */
static void
tell_listeners(List *streams, int64 changed)
{
	ListCell   *cell;

	foreach(cell, streams)
	{
		const PsStream *stream = lfirst(cell);

		if (strcmp(stream->notify, "off") != 0)
			ps_notify_rebuilt(stream->channel, stream->name, changed);
	}
}

static Datum
swap_rebuild(PG_FUNCTION_ARGS)
{
	PsMoment	deadline = ps_get_deadline(fcinfo, 1);
	List	   *streams;
	int64		changed;

	PreventCommandIfReadOnly("swap_rebuild()");
	ps_check_read_committed("swap_rebuild()");
	SPI_connect();
	streams = find_rebuild(PG_GETARG_TEXT_PP(0));
	check_ready(linitial(streams));
	check_complete();
	wait_for_rebuild(streams, deadline);	/* first without locks: events are still applied meanwhile */
	lock_copies(streams, deadline);
	check_ready(linitial(streams));
	check_complete();
	changed = ps_rebuild_bring(ps_rebuilds());
	ps_segment_renew(NULL);
	ps_live_checks_add_gone();
	ps_rebuild_end();
	log_action(streams, "swapped");
	tell_listeners(streams, changed);
	SPI_finish();
	PG_RETURN_INT64(changed);
}

PS_FUNCTION(ps_rebuild_swap);
static Datum
ps_rebuild_swap_checked(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, swap_rebuild, "swap_rebuild()", ps_interval_us(PG_GETARG_INTERVAL_P(1)) / 1000);
}
