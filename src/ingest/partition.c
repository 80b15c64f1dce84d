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
	PsReading  *reading = &worker->reading;
	PsPosition	wanted = {topic_no, partition};
	PsPartition *found;

	/* messages of one partition come in a row */
	if (reading->found < reading->npartitions && compare_partitions(&wanted, &reading->partitions[reading->found]) == 0)
		return &reading->partitions[reading->found];
	if (reading->npartitions == 0)
		return NULL;
	found = bsearch(&wanted, reading->partitions, reading->npartitions, sizeof(PsPartition), compare_partitions);
	if (found != NULL)
		reading->found = found - reading->partitions;
	return found;
}
