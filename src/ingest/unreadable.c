/*
 * unreadable.c
 *	  Messages that librdkafka cannot read: a codec that it does not know, a
 *	  checksum that is wrong, more bytes than receive.message.max.bytes. It asks the
 *	  broker for them again and again. Nobody goes past them unasked, as the next
 *	  copy, another broker or another setting may do; seek_stream() does.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "ingest/worker.h"
#include "store/locks.h"
#include "store/rebuild_catalog.h"
#include "store/rebuild_schema.h"
#include "utils/snapmgr.h"

/* Goes past in a rebuild what its stream has gone past: nobody can seek in a rebuild. */
static bool
unreadable_skip(PsWorker *worker, const PsUnreadable *refusal)
{
	bool		skipped;

	if (!ps_rebuild_schema_used())
		return false;
	ps_worker_begin(worker);
	ps_lock_tables();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	skipped = ps_rebuild_skip(worker->stream->stream_id, refusal->partition, refusal->offset);
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
	MemoryContextSwitchTo(worker->batch_context);
	worker->reassign |= skipped;
	return skipped;
}

/* Writes what a partition's row does not say yet. */
static void
unreadable_note(PsWorker *worker, PsPartition *partition, const PsUnreadable *refusal)
{
	char	   *error = psprintf("the batch of messages at offset " INT64_FORMAT " cannot be read: %s", refusal->offset, refusal->reason);

	ps_worker_begin(worker);
	ps_lock_tables();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	ps_stream_note_refused(worker->stream->stream_id, partition->partition, error);
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
	MemoryContextSwitchTo(worker->batch_context);
	partition->refused_offset = refusal->offset;
	partition->refused_behind = partition->stored_offset + 1;
	ereport(LOG,
			(errmsg("stream \"%s\" does not get on in partition %d: %s", worker->stream->name, partition->partition, error),
			 errhint("To go past it call pause_stream(), seek_stream() and resume_stream().")));
}

void
ps_unreadable_note(PsWorker *worker, const PsIntake *intake)
{
	ListCell   *cell;

	foreach(cell, intake->refused)
	{
		const PsUnreadable *refusal = lfirst(cell);
		PsPartition *partition = ps_partition_find(worker, refusal->partition);

		/* said again and again; the offset is that of the batch that holds the message */
		if (partition == NULL || unreadable_skip(worker, refusal) ||
			(partition->refused_offset == refusal->offset && partition->refused_behind == partition->stored_offset + 1))
			continue;
		unreadable_note(worker, partition, refusal);
	}
}
