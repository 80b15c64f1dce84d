/*
 * streams.c
 *	  Pausing, resuming, starting and dropping streams, and refilling their sinks.
 *
 *	  A worker is registered before its transaction commits, so that a missing
 *	  slot can still be recorded; it waits for the transaction on a lock, and
 *	  exits when the stream is not there or not enabled afterwards.
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/caller.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "ingest/launcher.h"
#include "miscadmin.h"
#include "process/lease.h"
#include "store/extension.h"
#include "store/lock_wait.h"
#include "store/outbox.h"
#include "store/rebuild_catalog.h"
#include "utils/builtins.h"

/* Raises when a restore brought a stream's offsets without the data that they stand for: it would go on after what is missing. */
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

/* Enables or disables, and starts what was enabled. */
static void
enable_stream(text *name, bool enabled, bool anyway)
{
	PsStream   *stream;
	PsSavedUser saved;

	SPI_connect();
	stream = ps_find_stream(name, true);
	ps_lease_hold_back(stream->stream_id);	/* what its workers change until then is here, and nothing after it */
	saved = ps_switch_to_owner();
	if (enabled)
		ps_check_slots(stream, 0);
	if (enabled && !anyway)
		check_restored(stream);
	if (stream->enabled != enabled || enabled)
		ps_stream_enable(stream->stream_id, enabled);
	if (enabled)
		ps_start_at_commit(stream, !stream->enabled);	/* those that were told to stop are still there */
	ps_restore_user(saved);
	SPI_finish();
}

static Datum
pause_stream(PG_FUNCTION_ARGS)
{
	enable_stream(PG_GETARG_TEXT_PP(0), false, false);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_pause_stream);
Datum
ps_pause_stream(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, pause_stream, "pause_stream()", PS_SESSION_WAIT_MS);
}

static Datum
resume_stream(PG_FUNCTION_ARGS)
{
	enable_stream(PG_GETARG_TEXT_PP(0), true, PG_GETARG_BOOL(1));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_resume_stream);
Datum
ps_resume_stream(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, resume_stream, "resume_stream()", PS_SESSION_WAIT_MS);
}

static Datum
drop_stream(PG_FUNCTION_ARGS)
{
	PsStream   *stream;
	PsRebuild  *rebuild;
	PsSavedUser saved;

	SPI_connect();
	stream = ps_find_stream(PG_GETARG_TEXT_PP(0), true);
	ps_lease_hold_back(stream->stream_id);	/* its workers, and its relays, which would meet us in the outbox */
	saved = ps_switch_to_owner();
	rebuild = ps_rebuild_find();
	if (rebuild != NULL && rebuild->stream_id == stream->stream_id)
	{
		ps_lease_hold_back(PS_LEASE_OF_REBUILD(stream->stream_id));
		ps_rebuild_end();
	}
	ps_stream_drop(stream->stream_id);
	ps_outbox_clear(stream->stream_id);
	ps_restore_user(saved);
	SPI_finish();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_drop_stream);
Datum
ps_drop_stream(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, drop_stream, "drop_stream()", PS_SESSION_WAIT_MS);
}

PG_FUNCTION_INFO_V1(ps_start_streams);
Datum
ps_start_streams(PG_FUNCTION_ARGS)
{
	int			started;
	PsSavedUser saved;

	PreventCommandIfReadOnly("start_streams()");
	ps_extension_check();
	SPI_connect();
	saved = ps_switch_to_owner();
	started = ps_launcher_start_streams();
	ps_restore_user(saved);
	SPI_finish();
	PG_RETURN_INT32(started);
}

/* The kind of a sink that the stream has. */
static PsSinkKind
find_sink(const PsStream *stream, const char *name)
{
	for (int kind = 0; kind < PS_SINK_KINDS; kind++)
		if (stream->sinks[kind] != NULL && strcmp(ps_sink_names[kind], name) == 0)
			return kind;
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("stream \"%s\" has no sink \"%s\"", stream->name, name),
			 errhint("SELECT sink FROM profile_stream.stat_sinks shows which there are; alter_stream() adds one.")));
}

PG_FUNCTION_INFO_V1(ps_resync_sink);
Datum
ps_resync_sink(PG_FUNCTION_ARGS)
{
	PsStream   *stream;
	PsSinkKind	kind;
	PsSavedUser saved;
	int64		rows;

	PreventCommandIfReadOnly("resync_sink()");
	SPI_connect();
	stream = ps_find_stream(PG_GETARG_TEXT_PP(0), true);
	kind = find_sink(stream, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	saved = ps_switch_to_owner();
	rows = ps_outbox_resync(stream->stream_id, kind);
	ps_restore_user(saved);
	SPI_finish();
	PG_RETURN_INT64(rows);
}
