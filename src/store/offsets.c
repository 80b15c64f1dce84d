/*
 * offsets.c
 *	  Moves the offsets of partitions, in the transaction of the data. A row is updated
 *	  only if it holds what the worker expects. So a worker writes nothing once another
 *	  one has taken its partition over.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/offsets.h"
#include "store/plan.h"
#include "utils/timestamp.h"

/* The columns of a move: X(column, SQL type). Those of the counters follow. */
#define MOVE_COLUMNS(X, SEPARATOR) \
	X(topic_no, INT4) SEPARATOR \
	X(partition, INT4) SEPARATOR \
	X(epoch, INT4) SEPARATOR \
	X(expected_offset, INT8) SEPARATOR \
	X(expected_commits, INT8) SEPARATOR \
	X(next_offset, INT8) SEPARATOR \
	X(read_offset, INT8) SEPARATOR \
	X(finished, BYTEA) SEPARATOR \
	X(held, INT8) SEPARATOR \
	X(held_bytes, INT8) SEPARATOR \
	X(end_offset, INT8) SEPARATOR \
	X(check_offset, INT8) SEPARATOR \
	X(check_timestamp, TIMESTAMPTZ) SEPARATOR \
	X(check_hash, INT8) SEPARATOR \
	X(last_message_at, TIMESTAMPTZ) SEPARATOR \
	X(sources, BYTEA) SEPARATOR \
	X(consumed, INT8)

#define POSITION(column, ...) MOVE_##column,
#define NAME(column, ...) #column
#define TYPE(column, type) type##OID,
#define COUNTER_TYPE(counter, ...) INT8OID,
#define ARRAY_TYPE(column, type) type##ARRAYOID,
#define COUNTER_ARRAY_TYPE(counter, ...) INT8ARRAYOID,
#define ADD_COUNTER(counter, ...) #counter " = o." #counter " + m." #counter

enum
{
	MOVE_COLUMNS(POSITION,)
	PS_ALL_COUNTERS(POSITION,)
	NCOLUMNS
};

#define NSCALARS 2				/* stream_id and the time */

static PsPlan move_plan = {
	"UPDATE profile_stream_internal.stream_offsets o SET next_offset = m.next_offset, read_offset = m.read_offset,"
	" finished = m.finished, held = m.held, held_bytes = m.held_bytes, commits = o.commits + 1,"
	" end_offset = COALESCE(m.end_offset, o.end_offset),"
	" check_offset = m.check_offset, check_timestamp = m.check_timestamp, check_hash = m.check_hash,"
	" consumed = o.consumed + m.consumed, " PS_ALL_COUNTERS(ADD_COUNTER, ", ") ","
	" last_message_at = COALESCE(m.last_message_at, o.last_message_at), committed_at = $2,"
	" sources = COALESCE(profile_stream_internal.add_sources(o.sources, m.sources), o.sources),"
	" error = CASE WHEN m.next_offset = o.next_offset THEN o.error END"
	" FROM ROWS FROM (" PS_PLAN_ARRAYS ") AS m(" MOVE_COLUMNS(NAME, ", ") ", " PS_ALL_COUNTERS(NAME, ", ") ")"
	" WHERE o.stream_id = $1 AND o.topic_no = m.topic_no AND o.partition = m.partition AND o.epoch = m.epoch"
	" AND o.next_offset = m.expected_offset AND o.commits = m.expected_commits AND o.state = 'running'",
	NSCALARS + NCOLUMNS, {INT4OID, TIMESTAMPTZOID, MOVE_COLUMNS(ARRAY_TYPE,) PS_ALL_COUNTERS(COUNTER_ARRAY_TYPE,)},
	.first_array = NSCALARS + 1
};

static void
add_number(PsColumn *column, int64 number, bool isnull)
{
	if (isnull)
		ps_column_add_null(column);
	else
		ps_column_add(column, Int64GetDatum(number));
}

#define ADD_COUNT(counter, ...) ps_column_add(&columns[MOVE_##counter], Int64GetDatum(counts->counter));

/* Adds a move to the arrays. */
static void
add_move(PsColumn *columns, const PsOffsetMove *move)
{
	const PsCounts *counts = &move->counts;

	ps_column_add(&columns[MOVE_topic_no], Int32GetDatum(move->topic_no));
	ps_column_add(&columns[MOVE_partition], Int32GetDatum(move->partition));
	ps_column_add(&columns[MOVE_epoch], Int32GetDatum(move->epoch));
	ps_column_add(&columns[MOVE_expected_offset], Int64GetDatum(move->expected_offset));
	ps_column_add(&columns[MOVE_expected_commits], Int64GetDatum(move->expected_commits));
	ps_column_add(&columns[MOVE_next_offset], Int64GetDatum(move->next_offset));
	ps_column_add(&columns[MOVE_read_offset], Int64GetDatum(move->read_offset));
	ps_column_add(&columns[MOVE_finished], PointerGetDatum(move->finished));
	ps_column_add(&columns[MOVE_held], Int64GetDatum(move->held));
	ps_column_add(&columns[MOVE_held_bytes], Int64GetDatum(move->held_bytes));
	add_number(&columns[MOVE_end_offset], move->end_offset, move->end_offset < 0);
	add_number(&columns[MOVE_check_offset], move->check.offset, move->check.offset < 0);
	add_number(&columns[MOVE_check_hash], move->check.hash, move->check.offset < 0);
	ps_column_add_time(&columns[MOVE_check_timestamp], move->check.timestamp);
	ps_column_add_time(&columns[MOVE_last_message_at], move->last_message_at);
	if (move->sources.n > 0)
		ps_column_add(&columns[MOVE_sources], PointerGetDatum(ps_source_counts_save(&move->sources)));
	else
		ps_column_add_null(&columns[MOVE_sources]);
	ps_column_add(&columns[MOVE_consumed], Int64GetDatum(counts->consumed));
	PS_ALL_COUNTERS(ADD_COUNT,)
}

void
ps_offsets_move(int stream_id, const PsOffsetMove *moves, int n, TimestampTz now)
{
	static const Oid types[NCOLUMNS] = {MOVE_COLUMNS(TYPE,) PS_ALL_COUNTERS(COUNTER_TYPE,)};
	PsColumn	columns[NCOLUMNS];
	Datum		args[NSCALARS + NCOLUMNS];

	if (n == 0)
		return;
	for (int c = 0; c < NCOLUMNS; c++)
		ps_column_init(&columns[c], types[c], n);
	for (int i = 0; i < n; i++)
		add_move(columns, &moves[i]);
	args[0] = Int32GetDatum(stream_id);
	args[1] = TimestampTzGetDatum(now);
	for (int c = 0; c < NCOLUMNS; c++)
		args[NSCALARS + c] = ps_column_array(&columns[c]);
	if (ps_plan_run(&move_plan, args, NULL, SPI_OK_UPDATE) != n)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("offsets of stream %d were moved by another worker", stream_id),
				 errhint("Nothing needs to be done: the batch is rolled back, and the partition is read again from the stored offset.")));
}
