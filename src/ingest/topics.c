/*
 * topics.c
 *	  The topics of a worker's stream, and their numbers. Messages that wait keep a
 *	  pointer to the name of their topic, so that a name lives as long as the process.
 */
#include "postgres.h"

#include "ingest/topics.h"
#include "ingest/transaction.h"
#include "process/lease.h"
#include "store/locks.h"
#include "store/topic_catalog.h"
#include "store/xact.h"
#include "utils/memutils.h"

/* The name of a topic in memory that lives as long as the process. */
static const char *
keep_name(PsWorker *worker, const PsTopic *topic)
{
	const char *known = ps_worker_topic(worker, topic->topic_no);

	return known != NULL ? known : MemoryContextStrdup(worker->context, topic->name);
}

/* From here on the worker has these topics. */
static void
adopt_topics(PsWorker *worker, List *topics)
{
	PsTopic    *adopted = MemoryContextAlloc(worker->context, Max(list_length(topics), 1) * sizeof(PsTopic));
	ListCell   *cell;
	int			n = 0;

	foreach(cell, topics)
	{
		const PsTopic *topic = lfirst(cell);

		adopted[n].topic_no = topic->topic_no;
		adopted[n++].name = keep_name(worker, topic);
	}
	ps_consumer_set_topics(worker->consumer, adopted, n);
	if (worker->topics != NULL)
		pfree(worker->topics);
	worker->topics = adopted;
	worker->ntopics = n;
}

void
ps_topics_update(PsWorker *worker)
{
	if (worker->topics_of == worker->stream_reads)
		return;
	ps_worker_begin(worker);
	ps_lock_tables();
	ps_lease_lock_partitions(worker->stream->stream_id);
	ps_spi_begin();
	adopt_topics(worker, ps_topics_number(worker->stream));
	ps_commit();
	MemoryContextSwitchTo(worker->batch_context);
	worker->topics_of = worker->stream_reads;
}
