/*
 * offsets.c
 *	  The compare-and-set on stream_offsets that fences a stale worker.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/offsets.h"
#include "store/plan.h"
#include "utils/timestamp.h"

static PsPlan move_plan = {
	"UPDATE profile_stream.stream_offsets o SET next_offset = m.next_offset,"
	" end_offset = COALESCE(m.end_offset, o.end_offset),"
	" applied = o.applied + m.applied, duplicates = o.duplicates + m.duplicates,"
	" dead = o.dead + m.dead, tombstones = o.tombstones + m.tombstones,"
	" last_message_at = COALESCE(m.last_message_at, o.last_message_at), committed_at = $2"
	" FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6),"
	" pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9), pg_catalog.unnest($10),"
	" pg_catalog.unnest($11), pg_catalog.unnest($12))"
	" AS m(partition, epoch, expected_offset, next_offset, end_offset, last_message_at,"
	" applied, duplicates, dead, tombstones)"
	" WHERE o.stream_id = $1 AND o.partition = m.partition AND o.epoch = m.epoch"
	" AND o.next_offset = m.expected_offset AND o.state = 'running'",
	12, {INT4OID, TIMESTAMPTZOID, INT4ARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID}
};

void
ps_offsets_move(int stream_id, const PsOffsetMove *moves, int n, TimestampTz now)
{
	static const Oid types[10] = {
		INT4OID, INT4OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, INT8OID
	};
	PsColumn	columns[10];
	Datum		args[12];

	if (n == 0)
		return;
	for (int c = 0; c < 10; c++)
		ps_column_init(&columns[c], types[c], n);
	for (int i = 0; i < n; i++)
	{
		const PsOffsetMove *move = &moves[i];

		ps_column_add(&columns[0], Int32GetDatum(move->partition));
		ps_column_add(&columns[1], Int32GetDatum(move->epoch));
		ps_column_add(&columns[2], Int64GetDatum(move->expected_offset));
		ps_column_add(&columns[3], Int64GetDatum(move->next_offset));
		if (move->end_offset < 0)
			ps_column_add_null(&columns[4]);
		else
			ps_column_add(&columns[4], Int64GetDatum(move->end_offset));
		ps_column_add_time(&columns[5], move->last_message_at);
		ps_column_add(&columns[6], Int64GetDatum(move->counts.applied));
		ps_column_add(&columns[7], Int64GetDatum(move->counts.duplicates));
		ps_column_add(&columns[8], Int64GetDatum(move->counts.dead));
		ps_column_add(&columns[9], Int64GetDatum(move->counts.tombstones));
	}
	args[0] = Int32GetDatum(stream_id);
	args[1] = TimestampTzGetDatum(now);
	for (int c = 0; c < 10; c++)
		args[2 + c] = ps_column_array(&columns[c]);
	if (ps_plan_run(&move_plan, args, NULL, SPI_OK_UPDATE) != n)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("offsets of stream %d were moved by another worker", stream_id),
				 errhint("The batch is rolled back; the partition is read again from the stored offset.")));
}
