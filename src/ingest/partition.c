/*
 * partition.c
 *	  The partitions that are assigned to this worker.
 */
#include "postgres.h"

#include "ingest/partition.h"

static int
compare_partitions(const void *key, const void *element)
{
	int32		partition = ((const PsPartition *) element)->partition;

	return *(const int32 *) key < partition ? -1 : *(const int32 *) key > partition;
}

PsPartition *
ps_partition_find(PsWorker *worker, int32 partition)
{
	if (worker->reading.npartitions == 0)
		return NULL;
	return bsearch(&partition, worker->reading.partitions, worker->reading.npartitions, sizeof(PsPartition), compare_partitions);
}
