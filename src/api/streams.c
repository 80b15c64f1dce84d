/*
 * streams.c
 *	  The functions that pause, resume, start and drop streams, resync their sinks, and
 *	  check their counters.
 *
 *	  A worker is registered before the transaction commits, so that a missing slot can
 *	  still be recorded. The worker waits for the transaction on a lock. It exits when the
 *	  stream then does not exist or is not enabled.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "api/caller.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "ingest/launcher.h"
#include "miscadmin.h"
#include "process/lease.h"
#include "store/extension.h"
#include "store/lock_wait.h"
#include "store/outbox.h"
#include "store/process_counters.h"
#include "store/rebuild_catalog.h"
#include "store/reconcile.h"
#include "utils/builtins.h"

/* Raises when a restore brought the offsets of a stream, but not its data: it would never read the missing messages again. */
static void
check_restored(const PsStream *stream)
{
	char	   *missing = ps_stream_missing_data(stream->stream_id);

	if (missing != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the data of stream \"%s\" was not restored with its offsets", stream->name),
				 errdetail("By its offsets %s.", missing),
				 errhint("Restore the data. Or go on without it by resume_stream(name, anyway => true), after seek_stream(name, 'earliest') to read the topic again.")));
}

/* Enables or disables a stream, and starts the workers of an enabled one. */
static void
enable_stream(text *name, bool enabled, bool anyway)
{
	PsStream   *stream;

	SPI_connect();
	stream = ps_find_stream(name, true);
	ps_lease_hold_back(stream->stream_id);	/* its workers change nothing more until the commit */
	if (enabled)
		ps_check_slots(stream, 0);
	if (enabled && !anyway)
		check_restored(stream);
	if (stream->enabled != enabled || enabled)
		ps_stream_enable(stream, enabled);
	if (enabled)
		ps_start_at_commit(stream, !stream->enabled);	/* workers that are about to stop still have their leases */
	SPI_finish();
}

static Datum
pause_stream(PG_FUNCTION_ARGS)
{
	enable_stream(PG_GETARG_TEXT_PP(0), false, false);
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_pause_stream);
static Datum
ps_pause_stream_checked(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, pause_stream, "pause_stream()", PS_SESSION_WAIT_MS);
}

static Datum
resume_stream(PG_FUNCTION_ARGS)
{
	enable_stream(PG_GETARG_TEXT_PP(0), true, PG_GETARG_BOOL(1));
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_resume_stream);
static Datum
ps_resume_stream_checked(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, resume_stream, "resume_stream()", PS_SESSION_WAIT_MS);
}

/* Ends the rebuild that a stream is in. Streams are rebuilt together, so it is over for the others too. */
static void
drop_rebuild_with(const PsStream *stream)
{
	List	   *rebuilds;
	ListCell   *cell;

	if (ps_rebuild_find(stream->stream_id) == NULL)
		return;
	rebuilds = ps_rebuilds();
	foreach(cell, rebuilds)
		ps_lease_hold_back(PS_LEASE_OF_REBUILD(((PsRebuild *) lfirst(cell))->stream_id));
	ps_rebuild_end();
	foreach(cell, rebuilds)
	{
		const PsRebuild *rebuild = lfirst(cell);

		ps_state_log_action(rebuild->stream, "rebuild", "cancelled", psprintf("stream \"%s\" was dropped", stream->name));
		if (rebuild->stream_id != stream->stream_id)
			ereport(NOTICE,
					(errmsg("the rebuild of stream \"%s\" ends with that of stream \"%s\"", rebuild->stream, stream->name),
					 errhint("rebuild() begins anew with the streams that are left.")));
	}
}

static Datum
drop_stream(PG_FUNCTION_ARGS)
{
	PsStream   *stream;

	SPI_connect();
	stream = ps_find_stream(PG_GETARG_TEXT_PP(0), true);
	ps_lease_hold_back(stream->stream_id);	/* its relays would otherwise wait for our rows of the outbox */
	drop_rebuild_with(stream);
	ps_state_log_action(stream->name, "stream", "dropped", NULL);
	ps_stream_drop(stream->stream_id);
	ps_outbox_clear(stream->stream_id);
	SPI_finish();
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_drop_stream);
static Datum
ps_drop_stream_checked(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, drop_stream, "drop_stream()", PS_SESSION_WAIT_MS);
}

PS_FUNCTION(ps_start_streams);
static Datum
ps_start_streams_checked(PG_FUNCTION_ARGS)
{
	int			started;

	PreventCommandIfReadOnly("start_streams()");
	SPI_connect();
	started = ps_launcher_start_streams();
	SPI_finish();
	PG_RETURN_INT32(started);
}

PS_FUNCTION(ps_stat_reset);
static Datum
ps_stat_reset_checked(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("stat_reset()");
	SPI_connect();
	ps_process_reset_counters(ps_find_stream(PG_GETARG_TEXT_PP(0), true)->stream_id);
	SPI_finish();
	PG_RETURN_VOID();
}

/* Finds a sink of the stream by its name, or raises. */
static PsSinkKind
find_sink(const PsStream *stream, const char *name)
{
	for (int kind = 0; kind < PS_SINK_KINDS; kind++)
		if (stream->sinks[kind] != NULL && strcmp(ps_sinks[kind].name, name) == 0)
			return kind;
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("stream \"%s\" has no sink \"%s\"", stream->name, name),
			 errhint("SELECT sink FROM profile_stream.stat_sinks shows which there are; alter_stream() adds one.")));
}

/* For stat_sinks, which also shows that versions differ. */
PG_FUNCTION_INFO_V1(ps_sink_backlog);
Datum
ps_sink_backlog(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, false};
	TimestampTz since;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "sink_backlog() returns a row");
	SPI_connect();
	values[0] = Int64GetDatum(ps_outbox_backlog(PG_GETARG_INT32(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), &since));
	SPI_finish();
	values[1] = TimestampTzGetDatum(since);
	nulls[1] = TIMESTAMP_IS_NOBEGIN(since);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

PS_FUNCTION(ps_resync_sink);
static Datum
ps_resync_sink_checked(PG_FUNCTION_ARGS)
{
	PsStream   *stream;
	PsSinkKind	kind;
	int64		rows;

	PreventCommandIfReadOnly("resync_sink()");
	SPI_connect();
	stream = ps_find_stream(PG_GETARG_TEXT_PP(0), true);
	kind = find_sink(stream, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	rows = ps_outbox_resync(stream->stream_id, kind);
	SPI_finish();
	PG_RETURN_INT64(rows);
}

/* Shows a stream's counters and their difference, which is 0 unless something is wrong. Reads with the caller's rights. */
PS_FUNCTION(ps_reconcile);
static Datum
ps_reconcile_checked(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PsStream   *stream;
	uint64		n;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	stream = ps_find_stream(PG_GETARG_TEXT_PP(0), false);
	n = ps_reconcile_select(stream->stream_id);
	for (uint64 i = 0; i < n; i++)
		tuplestore_puttuple(rsinfo->setResult, SPI_tuptable->vals[i]);
	SPI_finish();
	return (Datum) 0;
}
