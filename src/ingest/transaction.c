/*
 * transaction.c
 *	  Begins the worker's transactions that change something: none begins, and none
 *	  goes on, once a session has told the worker something else.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "ingest/worker.h"
#include "process/invalidation.h"
#include "process/lease.h"
#include "store/rebuild_catalog.h"
#include "store/rebuild_schema.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

bool
ps_worker_is_wanted(const PsWorker *worker, const PsStream *stream)
{
	return stream != NULL && stream->enabled && worker->number < stream->workers;
}

/* Reads the stream in the transaction that is under way; whether the worker still runs. */
static bool
still_runs(const PsWorker *worker)
{
	PsStream   *stream;
	bool		wanted;

	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	stream = ps_stream_find(NULL, worker->stream->stream_id);
	if (stream != NULL && ps_rebuild_schema_used())
		ps_rebuild_adjust(stream);
	wanted = ps_worker_is_wanted(worker, stream);
	PopActiveSnapshot();
	SPI_finish();
	return wanted;
}

void
ps_control_check(PsWorker *worker)
{
	AcceptInvalidationMessages();
	/* a vacuum of the table looks like a change as well */
	if (!ps_stream_invalidated || worker->flushing || still_runs(worker))
		return;
	worker->told = true;
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("stream \"%s\" was changed", worker->stream->name)));
}

void
ps_worker_begin(PsWorker *worker)
{
	StartTransactionCommand();
	ps_lease_wait_start(worker->stream_id);
	if (worker->begun)
		ps_control_check(worker);
}

void
ps_worker_read_again(PsWorker *worker, int64 backoff)
{
	worker->told = false;
	worker->reassign = true;
	worker->next_lookup = 0;
	worker->next_attempt = ps_moment_plus(ps_clock_now(), backoff);
}
