/*
 * partition.c
 *	  The partitions that are assigned to this worker.
 */
#include "postgres.h"

#include "ingest/partition.h"

static int
compare_partitions(const void *key, const void *element)
{
	const PsPosition *wanted = key;
	const PsPartition *partition = element;

	if (wanted->topic_no != partition->topic_no)
		return wanted->topic_no < partition->topic_no ? -1 : 1;
	return wanted->partition < partition->partition ? -1 : wanted->partition > partition->partition;
}

PsPartition *
ps_partition_find(PsWorker *worker, int32 topic_no, int32 partition)
{
	PsPosition	wanted = {topic_no, partition};

	if (worker->reading.npartitions == 0)
		return NULL;
	return bsearch(&wanted, worker->reading.partitions, worker->reading.npartitions, sizeof(PsPartition), compare_partitions);
}
