/*
 * shard_offsets.c
 *	  The SQL of shard_offsets. distribute() adds a row of stream 0 to each shard, which
 *	  says of which hashes the offsets are. After a split a part of the shard has the row
 *	  of the whole, and the others have none. Neither goes on before distribute() has given
 *	  all of them the offsets of the whole.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/plan.h"
#include "store/shard_offsets.h"
#include "store/shards.h"
#include "utils/builtins.h"

static PsPlan read_plan = {
	"SELECT o.stream_id, o.partition, o.next_offset, o.topic FROM profile_stream_internal.shard_offsets o"
	" WHERE o.slot = $1 AND o.stream_id IN ($2, 0)",
	2, {TEXTOID, INT4OID}
};

static PsPlan add_plan = {
	"INSERT INTO profile_stream_internal.shard_offsets (slot, stream_id, topic, partition, next_offset)"
	" SELECT $1, $2, m.topic, m.partition, m.next_offset FROM ROWS FROM (" PS_PLAN_ARRAYS ") AS m(topic, partition, expected_offset, next_offset)"
	" WHERE m.expected_offset < 0 ON CONFLICT DO NOTHING",
	6, {TEXTOID, INT4OID, TEXTARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID},.first_array = 3
};

static PsPlan move_plan = {
	"UPDATE profile_stream_internal.shard_offsets o SET next_offset = m.next_offset"
	" FROM ROWS FROM (" PS_PLAN_ARRAYS ") AS m(topic, partition, expected_offset, next_offset)"
	" WHERE o.slot = $1 AND o.stream_id = $2 AND o.topic = m.topic AND o.partition = m.partition AND o.next_offset = m.expected_offset",
	6, {TEXTOID, INT4OID, TEXTARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID},.first_array = 3
};

static Datum
slot_datum(void)
{
	return CStringGetTextDatum(ps_shards_slot(ps_shards_used()));
}

List *
ps_shard_offsets_read(int stream_id)
{
	static const Oid types[] = {INT4OID, INT4OID, INT8OID, TEXTOID};
	Datum		args[2] = {slot_datum(), Int32GetDatum(stream_id)};
	uint64		found = ps_plan_run(&read_plan, args, NULL, SPI_OK_SELECT);
	bool		is_whole = false;
	List	   *offsets = NIL;

	ps_plan_check_types(types, lengthof(types));
	for (uint64 i = 0; i < found; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		PsShardOffset *offset = palloc(sizeof(PsShardOffset));
		bool		isnull;

		offset->topic = ps_plan_text(i, 4);
		offset->partition = DatumGetInt32(SPI_getbinval(row, desc, 2, &isnull));
		offset->next_offset = DatumGetInt64(SPI_getbinval(row, desc, 3, &isnull));
		if (DatumGetInt32(SPI_getbinval(row, desc, 1, &isnull)) == 0)
			is_whole = strcmp(offset->topic, ps_shards_range(ps_shards_used())) == 0;
		else
			offsets = lappend(offsets, offset);
	}
	SPI_freetuptable(SPI_tuptable);
	if (!is_whole)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("shard " INT64_FORMAT " of profiles was split", ps_shards_id(ps_shards_used(), PS_SHARDED_PROFILES)),
				 errdetail("Its parts have not got the offsets of the whole yet."),
				 errhint("Call profile_stream.distribute() on the coordinator.")));
	return offsets;
}

void
ps_shard_offsets_move(int stream_id, const PsShardMove *moves, int n)
{
	static const Oid types[4] = {TEXTOID, INT4OID, INT8OID, INT8OID};
	PsColumn	columns[4];
	Datum		args[6] = {slot_datum(), Int32GetDatum(stream_id)};
	int			nnew = 0;
	uint64		written = 0;

	for (int c = 0; c < lengthof(types); c++)
		ps_column_init(&columns[c], types[c], n);
	for (int i = 0; i < n; i++)
	{
		ps_column_add_text(&columns[0], moves[i].topic);
		ps_column_add(&columns[1], Int32GetDatum(moves[i].partition));
		ps_column_add(&columns[2], Int64GetDatum(moves[i].expected_offset));
		ps_column_add(&columns[3], Int64GetDatum(moves[i].next_offset));
		nnew += moves[i].expected_offset == PS_NOT_TAKEN;
	}
	for (int c = 0; c < lengthof(types); c++)
		args[2 + c] = ps_column_array(&columns[c]);
	if (nnew > 0)
		written += ps_plan_run(&add_plan, args, NULL, SPI_OK_INSERT);
	if (nnew < n)
		written += ps_plan_run(&move_plan, args, NULL, SPI_OK_UPDATE);
	if (written != n)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("offsets of stream %d in shard " INT64_FORMAT " were moved by another worker", stream_id,
						ps_shards_id(ps_shards_used(), PS_SHARDED_OFFSETS)),
				 errhint("Nothing needs to be done: the batch is rolled back, and the partition is read again from the stored offset.")));
}
