/*
 * transaction.c
 *	  Begins the worker's transactions that change something. None begins or goes on
 *	  after a session has paused the stream: pause_stream() has returned, so nothing
 *	  may change any more. The same holds for a partition or topic that alter_stream()
 *	  has taken away: another server may read it already.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "ingest/life.h"
#include "ingest/transaction.h"
#include "process/invalidation.h"
#include "process/lease.h"
#include "store/rebuild_catalog.h"
#include "store/rebuild_schema.h"
#include "store/xact.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

bool
ps_worker_is_wanted(const PsWorker *worker, const PsStream *stream)
{
	return stream != NULL && stream->enabled && worker->number < stream->workers;
}

static bool
is_same_name(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool
ps_worker_reads_same(const PsWorker *worker, const PsStream *stream)
{
	const PsStream *before = worker->stream;

	return is_same_name(before->topic, stream->topic) && is_same_name(before->topic_pattern, stream->topic_pattern) &&
		ps_text_set_equal(&before->topics, &stream->topics) && before->npartitions == stream->npartitions &&
		(stream->npartitions == 0 || memcmp(before->partitions, stream->partitions, stream->npartitions * sizeof(int32)) == 0);
}

/* Reads the stream in the current transaction; whether the worker is to run on. */
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
	wanted = ps_worker_is_wanted(worker, stream) && ps_worker_reads_same(worker, stream);
	PopActiveSnapshot();
	SPI_finish();
	return wanted;
}

void
ps_worker_check_wanted(PsWorker *worker)
{
	AcceptInvalidationMessages();
	/* a vacuum of the table invalidates the stream, too: look whether it really changed */
	if (!ps_stream_invalidated || worker->life == PS_LIFE_STOPPING || still_runs(worker))
		return;
	worker->failure.superseded = true;
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("stream \"%s\" was changed", worker->stream->name)));
}

void
ps_worker_begin(PsWorker *worker)
{
	ps_transaction_start();
	ps_lease_wait_start(worker->stream_id);
	if (ps_life_has_started(worker))
		ps_worker_check_wanted(worker);
}
