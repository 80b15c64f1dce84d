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
	"SELECT o.stream_id, o.partition, o.next_offset, o.topic, o.seek_no, o.check_offset, o.check_timestamp, o.check_hash"
	" FROM profile_stream_internal.shard_offsets o WHERE o.slot = $1 AND o.stream_id IN ($2, 0)",
	2, {TEXTOID, INT4OID}
};

#define MOVE_COLUMNS "m(topic, partition, expected_offset, next_offset, seek_no, check_offset, check_timestamp, check_hash)"
#define MOVE_TYPES {TEXTOID, INT4OID, TEXTARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID}

static PsPlan add_plan = {
	"INSERT INTO profile_stream_internal.shard_offsets (slot, stream_id, topic, partition, next_offset, seek_no, check_offset, check_timestamp, check_hash)"
	" SELECT $1, $2, m.topic, m.partition, m.next_offset, m.seek_no, m.check_offset, m.check_timestamp, m.check_hash"
	" FROM ROWS FROM (" PS_PLAN_ARRAYS ") AS " MOVE_COLUMNS
	" WHERE m.expected_offset < 0 ON CONFLICT DO NOTHING",
	10, MOVE_TYPES,.first_array = 3
};

static PsPlan move_plan = {
	"UPDATE profile_stream_internal.shard_offsets o SET next_offset = m.next_offset, seek_no = m.seek_no,"
	" check_offset = m.check_offset, check_timestamp = m.check_timestamp, check_hash = m.check_hash"
	" FROM ROWS FROM (" PS_PLAN_ARRAYS ") AS " MOVE_COLUMNS
	" WHERE o.slot = $1 AND o.stream_id = $2 AND o.topic = m.topic AND o.partition = m.partition AND o.next_offset = m.expected_offset",
	10, MOVE_TYPES,.first_array = 3
};

/*
 * A call of before has noted a greater number than this node has of the stream: so it is not
 * one that the coordinator is about to create, or that this node is yet to create.
 */
static PsPlan forget_plan = {
	"DELETE FROM profile_stream_internal.shard_offsets o WHERE o.stream_id > 0"
	" AND o.stream_id < (SELECT pg_catalog.max(c.ids[1]) FROM profile_stream_internal.coordinator_calls c)"
	" AND NOT EXISTS (SELECT FROM profile_stream.streams s WHERE s.stream_id = o.stream_id)"
};

static PsPlan add_seek_plan = {
	"INSERT INTO profile_stream_internal.stream_seeks AS k (stream_id, topic, partition, seek_no, next_offset) VALUES ($1, $2, $3, $4, $5)"
	" ON CONFLICT (stream_id, topic, partition) DO UPDATE SET seek_no = $4, next_offset = $5",
	5, {INT4OID, TEXTOID, INT4OID, INT8OID, INT8OID}
};

static PsPlan seeks_plan = {
	"SELECT k.topic, k.partition, k.seek_no, k.next_offset FROM profile_stream_internal.stream_seeks k WHERE k.stream_id = $1",
	1, {INT4OID}
};

/* They are asked with the rights of the caller. */
static const char nodes_sql[] = "SELECT p.topic, p.partition, pg_catalog.min(p.start_offset), pg_catalog.max(p.next_offset)"
" FROM profile_stream.node_partitions p WHERE p.stream = $1 AND $2 > 0 GROUP BY 1, 2";
static const char shards_sql[] = "SELECT o.topic, o.partition, NULL::bigint, pg_catalog.max(o.next_offset)"
" FROM profile_stream_internal.shard_offsets o WHERE o.stream_id = $2 AND $1 IS NOT NULL GROUP BY 1, 2";

static Datum
slot_datum(void)
{
	return CStringGetTextDatum(ps_shards_slot(ps_shards_used()));
}

List *
ps_shard_offsets_read(int stream_id)
{
	static const Oid types[] = {INT4OID, INT4OID, INT8OID, TEXTOID, INT8OID, INT8OID, TIMESTAMPTZOID, INT8OID};
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
		offset->taken.next_offset = DatumGetInt64(SPI_getbinval(row, desc, 3, &isnull));
		offset->taken.seek_no = DatumGetInt64(SPI_getbinval(row, desc, 5, &isnull));
		offset->taken.check = ps_fingerprint_read(row, desc, 6);
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

/* Adds a change to the arrays. */
static void
shard_move_add(PsColumn *columns, const PsShardMove *move)
{
	const PsTaken *taken = &move->taken;

	ps_column_add_text(&columns[0], move->topic);
	ps_column_add(&columns[1], Int32GetDatum(move->partition));
	ps_column_add(&columns[2], Int64GetDatum(move->expected_offset));
	ps_column_add(&columns[3], Int64GetDatum(taken->next_offset));
	ps_column_add(&columns[4], Int64GetDatum(taken->seek_no));
	if (taken->check.offset < 0)
	{
		for (int c = 5; c < 8; c++)
			ps_column_add_null(&columns[c]);
		return;
	}
	ps_column_add(&columns[5], Int64GetDatum(taken->check.offset));
	ps_column_add_time(&columns[6], taken->check.timestamp);
	ps_column_add(&columns[7], Int64GetDatum(taken->check.hash));
}

void
ps_shard_offsets_move(int stream_id, const PsShardMove *moves, int n)
{
	static const Oid types[] = {TEXTOID, INT4OID, INT8OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, INT8OID};
	PsColumn	columns[lengthof(types)];
	Datum		args[2 + lengthof(types)] = {slot_datum(), Int32GetDatum(stream_id)};
	int			nnew = 0;
	uint64		written = 0;

	for (int c = 0; c < lengthof(types); c++)
		ps_column_init(&columns[c], types[c], n);
	for (int i = 0; i < n; i++)
	{
		shard_move_add(columns, &moves[i]);
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

int64
ps_shard_offsets_forget_dropped(void *arg)
{
	return ps_plan_run(&forget_plan, NULL, NULL, SPI_OK_DELETE);
}

void
ps_stream_seeks_add(int stream_id, const PsStreamSeek *seek)
{
	Datum		args[5] = {Int32GetDatum(stream_id), CStringGetTextDatum(seek->topic), Int32GetDatum(seek->partition), Int64GetDatum(seek->seek_no),
	Int64GetDatum(seek->next_offset)};

	ps_plan_write(&add_seek_plan, args, NULL, SPI_OK_INSERT, 1, "stream_seeks");
}

List *
ps_stream_seeks(int stream_id)
{
	static const Oid types[] = {TEXTOID, INT4OID, INT8OID, INT8OID};
	Datum		args[1] = {Int32GetDatum(stream_id)};
	uint64		found = ps_plan_run(&seeks_plan, args, NULL, SPI_OK_SELECT);
	List	   *seeks = NIL;

	ps_plan_check_types(types, lengthof(types));
	for (uint64 i = 0; i < found; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		PsStreamSeek *seek = palloc(sizeof(PsStreamSeek));
		bool		isnull;

		seek->topic = ps_plan_text(i, 1);
		seek->partition = DatumGetInt32(SPI_getbinval(row, desc, 2, &isnull));
		seek->seek_no = DatumGetInt64(SPI_getbinval(row, desc, 3, &isnull));
		seek->next_offset = DatumGetInt64(SPI_getbinval(row, desc, 4, &isnull));
		seeks = lappend(seeks, seek);
	}
	SPI_freetuptable(SPI_tuptable);
	return seeks;
}

/* Takes a row of the last result into that of its partition. */
static void
widen_row(List *rows, uint64 i)
{
	char	   *topic = ps_plan_text(i, 1);
	HeapTuple	tuple = SPI_tuptable->vals[i];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	bool		isnull;
	int32		partition = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull));
	int64		start = DatumGetInt64(SPI_getbinval(tuple, desc, 3, &isnull));
	bool		has_start = !isnull;
	ListCell   *cell;

	foreach(cell, rows)
	{
		PsStoredOffset *row = lfirst(cell);

		if (topic == NULL || row->partition != partition || strcmp(row->topic, topic) != 0)
			continue;
		if (has_start)
			row->start_offset = Min(row->start_offset, start);
		row->read_offset = Max(row->read_offset, DatumGetInt64(SPI_getbinval(tuple, desc, 4, &isnull)));
	}
}

void
ps_shard_offsets_widen(const char *stream, int stream_id, List *rows)
{
	static const char *const questions[] = {nodes_sql, shards_sql};
	Oid			types[2] = {TEXTOID, INT4OID};
	Datum		args[2] = {CStringGetTextDatum(stream), Int32GetDatum(stream_id)};
	MemoryContext caller = CurrentMemoryContext;

	for (int question = 0; question < lengthof(questions); question++)
	{
		if (SPI_execute_with_args(questions[question], lengthof(types), types, args, NULL, false, 0) != SPI_OK_SELECT)
			elog(ERROR, "could not read the offsets of the nodes");
		MemoryContextSwitchTo(caller);
		for (uint64 i = 0; i < SPI_processed; i++)
			widen_row(rows, i);
	}
}
