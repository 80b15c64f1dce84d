/*
 * offsets.c
 *	  The compare-and-set on stream_offsets that fences a stale worker.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/offsets.h"
#include "store/plan.h"
#include "utils/timestamp.h"

enum
{
	PARTITION, EPOCH, EXPECTED_OFFSET, EXPECTED_COMMITS, NEXT_OFFSET, READ_OFFSET, FINISHED, HELD, HELD_BYTES,
	END_OFFSET, CHECK_OFFSET, CHECK_TIMESTAMP, CHECK_HASH, LAST_MESSAGE_AT, CONSUMED, APPLIED, DUPLICATES, DEAD, LATE, TOMBSTONES, BLOCKED, REPLAYED,
	NCOLUMNS
};

static PsPlan move_plan = {
	"UPDATE profile_stream_internal.stream_offsets o SET next_offset = m.next_offset, read_offset = m.read_offset,"
	" finished = m.finished, held = m.held, held_bytes = m.held_bytes, commits = o.commits + 1,"
	" end_offset = COALESCE(m.end_offset, o.end_offset),"
	" check_offset = m.check_offset, check_timestamp = m.check_timestamp, check_hash = m.check_hash, consumed = o.consumed + m.consumed,"
	" applied = o.applied + m.applied, duplicates = o.duplicates + m.duplicates,"
	" dead = o.dead + m.dead, late = o.late + m.late, tombstones = o.tombstones + m.tombstones,"
	" blocked = o.blocked + m.blocked, replayed = o.replayed + m.replayed,"
	" last_message_at = COALESCE(m.last_message_at, o.last_message_at), committed_at = $2,"
	" error = CASE WHEN m.next_offset = o.next_offset THEN o.error END"
	" FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6),"
	" pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9), pg_catalog.unnest($10),"
	" pg_catalog.unnest($11), pg_catalog.unnest($12), pg_catalog.unnest($13), pg_catalog.unnest($14),"
	" pg_catalog.unnest($15), pg_catalog.unnest($16), pg_catalog.unnest($17), pg_catalog.unnest($18),"
	" pg_catalog.unnest($19), pg_catalog.unnest($20), pg_catalog.unnest($21), pg_catalog.unnest($22), pg_catalog.unnest($23),"
	" pg_catalog.unnest($24))"
	" AS m(partition, epoch, expected_offset, expected_commits, next_offset, read_offset, finished, held, held_bytes,"
	" end_offset, check_offset, check_timestamp, check_hash, last_message_at, consumed, applied, duplicates, dead, late, tombstones, blocked, replayed)"
	" WHERE o.stream_id = $1 AND o.partition = m.partition AND o.epoch = m.epoch"
	" AND o.next_offset = m.expected_offset AND o.commits = m.expected_commits AND o.state = 'running'",
	24, {INT4OID, TIMESTAMPTZOID, INT4ARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
		BYTEAARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID}
};

/* Adds one move to the columns. */
static void
add_move(PsColumn *columns, const PsOffsetMove *move)
{
	const PsCounts *counts = &move->counts;

	ps_column_add(&columns[PARTITION], Int32GetDatum(move->partition));
	ps_column_add(&columns[EPOCH], Int32GetDatum(move->epoch));
	ps_column_add(&columns[EXPECTED_OFFSET], Int64GetDatum(move->expected_offset));
	ps_column_add(&columns[EXPECTED_COMMITS], Int64GetDatum(move->expected_commits));
	ps_column_add(&columns[NEXT_OFFSET], Int64GetDatum(move->next_offset));
	ps_column_add(&columns[READ_OFFSET], Int64GetDatum(move->read_offset));
	ps_column_add(&columns[FINISHED], PointerGetDatum(move->finished));
	ps_column_add(&columns[HELD], Int64GetDatum(move->held));
	ps_column_add(&columns[HELD_BYTES], Int64GetDatum(move->held_bytes));
	if (move->end_offset < 0)
		ps_column_add_null(&columns[END_OFFSET]);
	else
		ps_column_add(&columns[END_OFFSET], Int64GetDatum(move->end_offset));
	if (move->check.offset < 0)
	{
		ps_column_add_null(&columns[CHECK_OFFSET]);
		ps_column_add_null(&columns[CHECK_HASH]);
	}
	else
	{
		ps_column_add(&columns[CHECK_OFFSET], Int64GetDatum(move->check.offset));
		ps_column_add(&columns[CHECK_HASH], Int64GetDatum(move->check.hash));
	}
	ps_column_add_time(&columns[CHECK_TIMESTAMP], move->check.timestamp);
	ps_column_add_time(&columns[LAST_MESSAGE_AT], move->last_message_at);
	ps_column_add(&columns[CONSUMED], Int64GetDatum(counts->consumed));
	ps_column_add(&columns[APPLIED], Int64GetDatum(counts->applied));
	ps_column_add(&columns[DUPLICATES], Int64GetDatum(counts->duplicates));
	ps_column_add(&columns[DEAD], Int64GetDatum(counts->dead));
	ps_column_add(&columns[LATE], Int64GetDatum(counts->late));
	ps_column_add(&columns[TOMBSTONES], Int64GetDatum(counts->tombstones));
	ps_column_add(&columns[BLOCKED], Int64GetDatum(counts->blocked));
	ps_column_add(&columns[REPLAYED], Int64GetDatum(counts->replayed));
}

void
ps_offsets_move(int stream_id, const PsOffsetMove *moves, int n, TimestampTz now)
{
	static const Oid types[NCOLUMNS] = {
		INT4OID, INT4OID, INT8OID, INT8OID, INT8OID, INT8OID, BYTEAOID, INT8OID, INT8OID,
		INT8OID, INT8OID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID
	};
	PsColumn	columns[NCOLUMNS];
	Datum		args[NCOLUMNS + 2];

	if (n == 0)
		return;
	for (int c = 0; c < NCOLUMNS; c++)
		ps_column_init(&columns[c], types[c], n);
	for (int i = 0; i < n; i++)
		add_move(columns, &moves[i]);
	args[0] = Int32GetDatum(stream_id);
	args[1] = TimestampTzGetDatum(now);
	for (int c = 0; c < NCOLUMNS; c++)
		args[2 + c] = ps_column_array(&columns[c]);
	if (ps_plan_run(&move_plan, args, NULL, SPI_OK_UPDATE) != n)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("offsets of stream %d were moved by another worker", stream_id),
				 errhint("The batch is rolled back; the partition is read again from the stored offset.")));
}
