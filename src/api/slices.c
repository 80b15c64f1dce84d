/*
 * slices.c
 *	  SQL functions for profiles on several servers, each of which reads a part of the
 *	  partitions.
 */
#include "postgres.h"

#include "api/caller.h"
#include "core/partitioner.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "store/extension.h"
#include "store/lock_wait.h"
#include "store/slice.h"
#include "utils/array.h"
#include "utils/builtins.h"

static PsPartitioner
find_partitioner(text *argument)
{
	char	   *name = text_to_cstring(argument);
	PsPartitioner partitioner;

	if (!ps_partitioner_find(name, &partitioner))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("partitioner must be murmur2, consistent or citus, not \"%s\"", name),
				 errhint("murmur2 is that of Java's producers, consistent that of librdkafka where its option partitioner is not set.")));
	return partitioner;
}

PS_FUNCTION(ps_kafka_partition);
static Datum
ps_kafka_partition_checked(PG_FUNCTION_ARGS)
{
	text	   *key = PG_GETARG_TEXT_PP(0);
	int32		npartitions = PG_GETARG_INT32(1);
	PsPartitioner partitioner = find_partitioner(PG_GETARG_TEXT_PP(2));

	ps_check_argument(npartitions >= 1, "partitions must be at least 1");
	ps_check_argument(VARSIZE_ANY_EXHDR(key) > 0, "key must not be empty: a producer chooses any partition for an empty key");
	PG_RETURN_INT32(ps_partitioner_choose(partitioner, VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), npartitions));
}

static Datum
prune_slice(PG_FUNCTION_ARGS)
{
	ArrayType  *keep = PG_GETARG_ARRAYTYPE_P(0);
	int32		npartitions = PG_GETARG_INT32(1);
	int32	   *numbers = (int32 *) ARR_DATA_PTR(keep);
	int			n = ArrayGetNItems(ARR_NDIM(keep), ARR_DIMS(keep));
	int64		removed;

	PreventCommandIfReadOnly("prune_slice()");
	(void) find_partitioner(PG_GETARG_TEXT_PP(2));
	ps_check_argument(n > 0 && !array_contains_nulls(keep), "keep must name one partition or more");
	for (int i = 0; i < n; i++)
		ps_check_argument(numbers[i] >= 0 && numbers[i] < npartitions, "each element of keep must be a partition, from 0 to partitions - 1");
	SPI_connect();
	removed = ps_slice_prune(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), PG_GETARG_DATUM(2));
	SPI_finish();
	PG_RETURN_INT64(removed);
}

PS_FUNCTION(ps_prune_slice);
static Datum
ps_prune_slice_checked(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, prune_slice, "prune_slice()", PS_SESSION_WAIT_MS);
}
