/*
 * topics.c
 *	  The topics of a worker's stream. With topic_pattern each look-up also lists the names of
 *	  all topics; those that match join the stream, and are asked for at once.
 *
 *	  Messages that wait keep a pointer to the name of their topic, so that a name lives as
 *	  long as the process.
 */
#include "postgres.h"

#include "ingest/life.h"
#include "ingest/partition.h"
#include "ingest/topics.h"
#include "ingest/transaction.h"
#include "process/lease.h"
#include "store/locks.h"
#include "store/rebuild_schema.h"
#include "store/topic_catalog.h"
#include "store/xact.h"
#include "utils/memutils.h"

const PsTopic *
ps_topics_find(const PsWorker *worker, int32 topic_no)
{
	for (int i = 0; i < worker->ntopics; i++)
		if (worker->topics[i].topic_no == topic_no)
			return &worker->topics[i];
	return NULL;
}

const char *
ps_topics_name(const PsWorker *worker, int32 topic_no)
{
	const PsTopic *topic = ps_topics_find(worker, topic_no);

	return topic != NULL ? topic->name : "";
}

/* The name of a topic in memory that lives as long as the process. */
static const char *
keep_name(PsWorker *worker, const PsTopic *topic)
{
	const PsTopic *known = ps_topics_find(worker, topic->topic_no);

	return known != NULL ? known->name : MemoryContextStrdup(worker->context, topic->name);
}

/* Whether partitions of a topic are read that the worker does not have any more. */
static bool
reads_others(const PsWorker *worker)
{
	for (int i = 0; i < worker->reading.npartitions; i++)
		if (ps_topics_find(worker, worker->reading.partitions[i].topic_no) == NULL)
			return true;
	return false;
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
		adopted[n] = *(const PsTopic *) lfirst(cell);
		adopted[n].name = keep_name(worker, &adopted[n]);
		n++;
	}
	ps_consumer_set_topics(worker->consumer, adopted, n);
	if (worker->topics != NULL)
		pfree(worker->topics);
	worker->topics = adopted;
	worker->ntopics = n;
	worker->topics_well = false;
	if (reads_others(worker))
		ps_life_look_up(worker);	/* otherwise it would apply what it is not to read any more */
}

/* Begins a transaction that reads or writes the topics of the stream. */
static void
topics_begin(PsWorker *worker)
{
	ps_worker_begin(worker);
	ps_lock_tables();
	ps_lease_lock_partitions(worker->stream->stream_id);
	ps_spi_begin();
	MemoryContextSwitchTo(worker->batch_context);
}

void
ps_topics_update(PsWorker *worker)
{
	List	   *topics;

	/* a rebuild has the topics that its stream has found */
	if (worker->topics_of == worker->stream_reads && !(ps_rebuild_schema_used() && worker->stream->topic_pattern != NULL))
		return;
	topics_begin(worker);
	topics = ps_topics_number(worker->stream);
	ps_commit();
	MemoryContextSwitchTo(worker->batch_context);
	adopt_topics(worker, topics);
	worker->topics_of = worker->stream_reads;
}

bool
ps_topics_answered(const PsWorker *worker)
{
	const PsLookup *lookup = &worker->looking_up.lookup;

	for (int t = 0; t < lookup->ntopics; t++)
		if (lookup->topics[t].npartitions == 0)
			return false;
	return true;
}

/* Notes with which pattern the broker's topics were looked through. */
static void
note_listed(PsWorker *worker)
{
	if (worker->listed_pattern != NULL)
		pfree(worker->listed_pattern);
	worker->listed_pattern = MemoryContextStrdup(worker->context, worker->stream->topic_pattern);
}

/* Adds topics that match. */
static void
add_matching(PsWorker *worker)
{
	const PsLookup *lookup = &worker->looking_up.lookup;
	bool		later = worker->listed_pattern != NULL && strcmp(worker->listed_pattern, worker->stream->topic_pattern) == 0;

	(void) ps_topics_discover(worker->stream, lookup->names, lookup->nnames, later);
}

static int64
count_topic_partitions(const PsLookup *lookup)
{
	int64		n = 0;

	for (int t = 0; t < lookup->ntopics; t++)
		n += lookup->topics[t].npartitions;
	return n;
}

bool
ps_topics_take_answer(PsWorker *worker)
{
	int64		partitions = count_topic_partitions(&worker->looking_up.lookup);
	const PsLookup *lookup = &worker->looking_up.lookup;
	bool		lists = lookup->list && lookup->names != NULL && worker->stream->topic_pattern != NULL;
	bool		well = ps_topics_answered(worker);
	List	   *topics = NIL;

	if (worker->topics_of != worker->stream_reads || (!lists && well && worker->topics_well && partitions == worker->partitions_noted))
		return false;
	topics_begin(worker);
	if (lists)
		add_matching(worker);
	if (!(well && worker->topics_well && partitions == worker->partitions_noted))
		ps_topics_note(worker->stream, lookup);
	if (lists)
		topics = ps_topics_known(worker->stream);
	ps_commit();
	MemoryContextSwitchTo(worker->batch_context);
	worker->topics_well = well;
	worker->partitions_noted = partitions;
	if (!lists)
		return false;
	note_listed(worker);
	if (list_length(topics) == worker->ntopics)
		return false;
	adopt_topics(worker, topics);
	return true;
}
