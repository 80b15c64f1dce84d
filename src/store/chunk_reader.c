/*
 * chunk_reader.c
 *	  Sealed chunks by customer and series, as the caller may see them.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "store/chunk_reader.h"
#include "store/direct_reader.h"
#include "store/plan.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#define CHUNKS "window_chunks"
#define BUCKET_COLUMNS 5

/* columns of the table, in the order in which the statement returns them, too */
enum ChunkColumn
{
	CHUNK_customer_id, CHUNK_metric, CHUNK_to_at, CHUNK_chunk_no, CHUNK_from_at, CHUNK_count, CHUNK_sum, CHUNK_min, CHUNK_max,
	CHUNK_samples, CHUNK_days, CHUNK_COLUMNS
};

static const Oid chunk_types[CHUNK_days] = {
	TEXTOID, TEXTOID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT8OID, NUMERICOID, NUMERICOID, NUMERICOID, BYTEAOID
};

#define KEY_COLUMNS 2			/* of the primary key, by which a series is found */

static PsPlan chunks_plan = {
	"SELECT c.customer_id, c.metric, c.to_at, c.chunk_no, c.from_at, c.count, c.sum, c.min, c.max, c.samples, c.days"
	" FROM profile_stream_internal.window_chunks c WHERE c.customer_id = $1 AND c.metric = $2 AND c.to_at >= $3",
	3, {TEXTOID, TEXTOID, TIMESTAMPTZOID}
};

/* Reads one element of the column days. */
static PsDaySum
read_bucket(HeapTupleHeader element)
{
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(element),.t_data = element};
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(element), HeapTupleHeaderGetTypMod(element));
	Datum		values[BUCKET_COLUMNS];
	bool		nulls[BUCKET_COLUMNS];
	PsDaySum	bucket;

	if (desc->natts != BUCKET_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("type day_bucket has %d attributes, not %d", desc->natts, BUCKET_COLUMNS)));
	heap_deform_tuple(&tuple, desc, values, nulls);
	ReleaseTupleDesc(desc);
	ps_plan_check_filled(nulls, BUCKET_COLUMNS, "days of table window_chunks");
	bucket.day = DatumGetDateADT(values[0]);
	bucket.count = DatumGetInt64(values[1]);
	bucket.sum = DatumGetNumericCopy(values[2]);
	bucket.min = DatumGetNumericCopy(values[3]);
	bucket.max = DatumGetNumericCopy(values[4]);
	return bucket;
}

static void
read_buckets(PsReadChunk *chunk, ArrayType *days)
{
	Datum	   *elements;

	deconstruct_array(days, ARR_ELEMTYPE(days), -1, false, TYPALIGN_DOUBLE, &elements, NULL, &chunk->nbuckets);
	chunk->buckets = palloc(Max(chunk->nbuckets, 1) * sizeof(PsDaySum));
	for (int i = 0; i < chunk->nbuckets; i++)
		chunk->buckets[i] = read_bucket(DatumGetHeapTupleHeader(elements[i]));
}

/* Gives one row to the caller's function. */
static void
give_chunk(const Datum *values, const bool *nulls, PsChunkTaker take, void *arg)
{
	PsReadChunk chunk = {0};

	chunk.chunk.from_at = DatumGetTimestampTz(values[CHUNK_from_at]);
	chunk.chunk.to_at = DatumGetTimestampTz(values[CHUNK_to_at]);
	chunk.chunk.count = DatumGetInt64(values[CHUNK_count]);
	chunk.chunk.sum = DatumGetNumericCopy(values[CHUNK_sum]);
	chunk.chunk.min = DatumGetNumericCopy(values[CHUNK_min]);
	chunk.chunk.max = DatumGetNumericCopy(values[CHUNK_max]);
	if (!nulls[CHUNK_samples])
		chunk.chunk.samples = DatumGetByteaP(values[CHUNK_samples]);
	else if (!nulls[CHUNK_days])
		read_buckets(&chunk, DatumGetArrayTypeP(values[CHUNK_days]));
	take(&chunk, arg);
}

/* The same by a statement. */
static void
select_chunks(Datum *args, PsChunkTaker take, void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	uint64		found;

	SPI_connect();
	MemoryContextSwitchTo(caller);
	found = ps_plan_read(&chunks_plan, args);
	ps_plan_check_types(chunk_types, lengthof(chunk_types));
	for (uint64 i = 0; i < found; i++)
	{
		Datum		values[CHUNK_COLUMNS];
		bool		nulls[CHUNK_COLUMNS];

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, nulls);
		give_chunk(values, nulls, take, arg);
	}
	SPI_finish();
	MemoryContextSwitchTo(caller);
}

void
ps_chunks_read(const text *customer_id, const char *series, TimestampTz from, PsChunkTaker take, void *arg)
{
	text	   *name = cstring_to_text(series);
	Datum		args[3] = {PointerGetDatum(customer_id), PointerGetDatum(name), TimestampTzGetDatum(from)};
	PsDirectReader reader;
	TupleTableSlot *row;

	if (!ps_direct_reader_open(&reader, CHUNKS, CHUNKS "_pkey", chunk_types, lengthof(chunk_types), KEY_COLUMNS))
	{
		select_chunks(args, take, arg);
		return;
	}
	ps_direct_reader_set_text(&reader, CHUNK_customer_id, customer_id);
	ps_direct_reader_set_text(&reader, CHUNK_metric, name);
	ps_direct_reader_begin(&reader);
	while ((row = ps_direct_reader_next(&reader)) != NULL)
		if (DatumGetTimestampTz(row->tts_values[CHUNK_to_at]) >= from)
			give_chunk(row->tts_values, row->tts_isnull, take, arg);
	ps_direct_reader_close(&reader);
}
