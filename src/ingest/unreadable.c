/*
 * unreadable.c
 *	  Messages that librdkafka cannot read: they have an unknown codec, a wrong
 *	  checksum, or more bytes than receive.message.max.bytes. librdkafka asks the
 *	  broker for them again and again. The worker does not skip them by itself, because
 *	  another broker or another setting may make them readable; seek_stream() skips them.
 */
#include "postgres.h"

#include "ingest/life.h"
#include "ingest/partition.h"
#include "ingest/transaction.h"
#include "ingest/unreadable.h"
#include "store/locks.h"
#include "store/rebuild_catalog.h"
#include "store/rebuild_schema.h"
#include "store/xact.h"

/* In a rebuild, skips what its stream has skipped, as nobody can seek in a rebuild. */
static bool
unreadable_skip(PsWorker *worker, const PsUnreadable *unreadable)
{
	PsPosition	refused = {unreadable->topic_no, unreadable->partition, unreadable->offset};
	bool		skipped;

	if (!ps_rebuild_schema_used())
		return false;
	ps_worker_begin(worker);
	ps_lock_tables();
	ps_spi_begin();
	skipped = ps_rebuild_skip(worker->stream->stream_id, &refused);
	ps_commit();
	MemoryContextSwitchTo(worker->batch_context);
	if (skipped)
		ps_life_look_up(worker);
	return skipped;
}

/* Writes into a partition's row that a batch of messages cannot be read. */
static void
unreadable_note(PsWorker *worker, PsPartition *partition, const PsUnreadable *unreadable)
{
	char	   *error = psprintf("the batch of messages at offset " INT64_FORMAT " cannot be read: %s", unreadable->offset, unreadable->reason);

	ps_worker_begin(worker);
	ps_lock_tables();
	ps_spi_begin();
	ps_stream_note_refused(worker->stream->stream_id, partition->topic_no, partition->partition, error);
	ps_commit();
	MemoryContextSwitchTo(worker->batch_context);
	partition->unreadable_offset = unreadable->offset;
	partition->unreadable_said_at = partition->stored_offset + 1;
	ereport(LOG,
			(errmsg("stream \"%s\" cannot go on in partition %d: %s", worker->stream->name, partition->partition, error),
			 errhint("To skip these messages, call pause_stream(), seek_stream() and resume_stream().")));
}

void
ps_unreadable_note(PsWorker *worker, const PsIntake *intake)
{
	ListCell   *cell;

	foreach(cell, intake->refused)
	{
		const PsUnreadable *unreadable = lfirst(cell);
		PsPartition *partition = ps_partition_find(worker, unreadable->topic_no, unreadable->partition);

		/* librdkafka reports it again and again; the offset is that of the batch which holds the message */
		if (partition == NULL || unreadable_skip(worker, unreadable) ||
			(partition->unreadable_offset == unreadable->offset && partition->unreadable_said_at == partition->stored_offset + 1))
			continue;
		unreadable_note(worker, partition, unreadable);
	}
}
