/*
 * partition_catalog.c
 *	  The SQL of stream_offsets and stream_gaps, for the worker that reads a partition
 *	  and for seek_stream(). offsets.c has the statement that each batch runs.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/partition_catalog.h"
#include "store/plan.h"
#include "store/state_log.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* what a user may see */
static PsPlan unread_plan = {
	"SELECT FROM profile_stream.stat_partitions p WHERE p.stream = $1 AND p.worker_pid IS NULL AND p.held > 0 AND p.state = 'running'"
	" AND NOT EXISTS (SELECT FROM profile_stream.stat_topics t WHERE t.stream = p.stream AND t.topic = p.topic AND t.state = 'left')",
	1, {TEXTOID}
};

static PsPlan offsets_plan = {
	"SELECT o.topic_no, o.partition, o.epoch, o.next_offset, o.read_offset, o.commits, o.finished, o.state = 'offset_lost', o.start_offset,"
	" o.check_offset, o.check_timestamp, o.check_hash, COALESCE(t.topic, s.topic, '')"
	" FROM profile_stream_internal.stream_offsets o JOIN profile_stream.streams s ON s.stream_id = o.stream_id"
	" LEFT JOIN profile_stream_internal.stream_topics t ON t.stream_id = o.stream_id AND t.topic_no = o.topic_no"
	" WHERE o.stream_id = $1 ORDER BY 1, 2",
	1, {INT4OID}
};

static PsPlan add_partition_plan = {
	"INSERT INTO profile_stream_internal.stream_offsets (stream_id, topic_no, partition, start_offset, next_offset, read_offset)"
	" VALUES ($1, $2, $3, $4, $4, $4)",
	4, {INT4OID, INT4OID, INT4OID, INT8OID}
};

static PsPlan end_plan = {
	"UPDATE profile_stream_internal.stream_offsets o SET end_offset = $4"
	" WHERE o.stream_id = $1 AND o.topic_no = $2 AND o.partition = $3 AND o.end_offset IS DISTINCT FROM $4",
	4, {INT4OID, INT4OID, INT4OID, INT8OID}
};

/* the error stays until the offset moves */
static PsPlan refused_plan = {
	"UPDATE profile_stream_internal.stream_offsets o SET error = $4"
	" WHERE o.stream_id = $1 AND o.topic_no = $2 AND o.partition = $3 AND o.state = 'running'",
	4, {INT4OID, INT4OID, INT4OID, TEXTOID}
};

static PsPlan lag_plan = {
	"SELECT COALESCE(pg_catalog.sum(GREATEST(o.end_offset - o.next_offset, 0)), 0)::int8"
	" FROM profile_stream_internal.stream_offsets o WHERE o.stream_id = $1 AND NOT EXISTS"
	" (SELECT FROM profile_stream_internal.stream_topics t JOIN profile_stream.streams s ON s.stream_id = t.stream_id"
	" WHERE t.stream_id = o.stream_id AND t.topic_no = o.topic_no"
	" AND (s.topic = t.topic OR t.topic = ANY (s.topics) OR t.pattern = s.topic_pattern) IS NOT TRUE)",
	1, {INT4OID}
};

/* of a new topic nothing was read yet, and held messages of the old one are lost */
static PsPlan lose_plan = {
	"UPDATE profile_stream_internal.stream_offsets o SET state = 'offset_lost', error = $4, epoch = o.epoch + $5::int,"
	" finished = CASE WHEN $5 THEN '' ELSE o.finished END,"
	" read_offset = CASE WHEN $5 THEN o.next_offset ELSE o.read_offset END,"
	" consumed = CASE WHEN $5 THEN o.consumed - o.held ELSE o.consumed END, held = CASE WHEN $5 THEN 0 ELSE o.held END, held_bytes = 0,"
	" check_offset = CASE WHEN $5 THEN NULL ELSE o.check_offset END"
	" WHERE o.stream_id = $1 AND o.topic_no = $2 AND o.partition = $3",
	5, {INT4OID, INT4OID, INT4OID, TEXTOID, BOOLOID}
};

/* messages that were held and are not any more no longer count as consumed */
static PsPlan jump_plan = {
	"WITH o AS (UPDATE profile_stream_internal.stream_offsets o SET next_offset = $6, read_offset = $7, finished = $8,"
	" consumed = o.consumed - o.held + $9, held = $9, held_bytes = 0, commits = o.commits + 1,"
	" epoch = o.epoch + $10::int, check_offset = CASE WHEN $10 THEN NULL ELSE o.check_offset END,"
	" state = 'running', error = NULL"
	" WHERE o.stream_id = $1 AND o.topic_no = $11 AND o.partition = $2 AND o.next_offset = $3 RETURNING 1)"
	" INSERT INTO profile_stream_internal.stream_gaps (stream_id, topic_no, partition, from_offset, to_offset, reason, recorded_at)"
	" SELECT $1, $11, $2, $12, $4, $5, pg_catalog.clock_timestamp() FROM o",
	12, {INT4OID, INT4OID, INT8OID, INT8OID, TEXTOID, INT8OID, INT8OID, BYTEAOID, INT8OID, BOOLOID, INT4OID, INT8OID}
};

/*
 * Messages that were held no longer count as consumed; the counters of a new row
 * are 0. A seek behind unreadable messages must not let a reader go back before
 * them.
 */
static PsPlan seek_plan = {
	"WITH f AS (SELECT o.next_offset FROM profile_stream_internal.stream_offsets o"
	" WHERE o.stream_id = $1 AND o.topic_no = $5 AND o.partition = $2 FOR UPDATE), n AS ("
	" INSERT INTO profile_stream_internal.stream_offsets AS o (stream_id, topic_no, partition, start_offset, next_offset, read_offset)"
	" VALUES ($1, $5, $2, $3, $3, $3) ON CONFLICT (stream_id, topic_no, partition) DO UPDATE SET next_offset = $3, read_offset = $3,"
	" finished = '', consumed = o.consumed - o.held, held = 0, held_bytes = 0, commits = o.commits + 1, state = 'running', error = NULL,"
	" epoch = o.epoch + $4::int, check_offset = CASE WHEN $4 OR (o.error IS NOT NULL AND o.state = 'running') THEN NULL ELSE o.check_offset END)"
	" INSERT INTO profile_stream_internal.stream_gaps (stream_id, topic_no, partition, from_offset, to_offset, reason, recorded_at)"
	" SELECT $1, $5, $2, f.next_offset, $3, 'seek', pg_catalog.clock_timestamp() FROM f WHERE f.next_offset <> $3",
	5, {INT4OID, INT4OID, INT8OID, BOOLOID, INT4OID}
};

/* counters stay: what is read again counts again */
static PsPlan align_plan = {
	"UPDATE profile_stream_internal.stream_offsets o SET next_offset = $4, read_offset = $4, finished = '', consumed = o.consumed - o.held, held = 0,"
	" held_bytes = 0, commits = o.commits + 1, epoch = o.epoch + $5::int, check_offset = NULL,"
	" error = CASE WHEN o.state = 'running' THEN o.error END, state = 'running'"
	" WHERE o.stream_id = $1 AND o.topic_no = $2 AND o.partition = $3",
	5, {INT4OID, INT4OID, INT4OID, INT8OID, BOOLOID}
};

/* the answers of nodes that are not there yet: null, or an error */
static PsPlan reached_on_nodes_plan = {
	"SELECT CASE WHEN NOT r.success THEN r.result END FROM pg_catalog.run_command_on_all_nodes("
	"pg_catalog.format('SELECT profile_stream_internal.node_reached(%L, %L, %L, %L)', $1, $2::text, $3::text, $4::text)) r"
	" WHERE NOT r.success OR r.result <> 't' ORDER BY r.success",
	4, {TEXTOID, TEXTARRAYOID, INT4ARRAYOID, INT8ARRAYOID}
};

PsFingerprint
ps_fingerprint_read(HeapTuple tuple, TupleDesc desc, int column)
{
	PsFingerprint check = {-1, DT_NOBEGIN, 0};
	bool		isnull;
	Datum		offset = SPI_getbinval(tuple, desc, column, &isnull);
	Datum		timestamp;

	if (isnull)
		return check;
	check.offset = DatumGetInt64(offset);
	timestamp = SPI_getbinval(tuple, desc, column + 1, &isnull);
	if (!isnull)
		check.timestamp = DatumGetTimestampTz(timestamp);
	check.hash = DatumGetInt64(SPI_getbinval(tuple, desc, column + 2, &isnull));
	return check;
}

/* Raises unless a row can be one of ours: a partition is a place in arrays. */
static void
check_row(const PsStoredOffset *row)
{
	if (row->partition < 0 || row->next_offset < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("table stream_offsets has partition %d with next_offset " INT64_FORMAT, row->partition, row->next_offset),
				 errhint("Somebody has written the table, or a dump that was restored. Delete the row.")));
}

List *
ps_stream_offsets(int stream_id)
{
	static const Oid types[] = {INT4OID, INT4OID, INT4OID, INT8OID, INT8OID, INT8OID, BYTEAOID, BOOLOID, INT8OID,
	INT8OID, TIMESTAMPTZOID, INT8OID, TEXTOID};
	Datum		args[1] = {Int32GetDatum(stream_id)};
	uint64		n = ps_plan_run(&offsets_plan, args, NULL, SPI_OK_SELECT);
	List	   *offsets = NIL;

	ps_plan_check_types(types, lengthof(types));
	for (uint64 i = 0; i < n; i++)
	{
		PsStoredOffset *offset = palloc(sizeof(PsStoredOffset));
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		offset->topic_no = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
		offset->partition = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull));
		offset->epoch = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
		offset->next_offset = DatumGetInt64(SPI_getbinval(tuple, desc, 4, &isnull));
		offset->read_offset = DatumGetInt64(SPI_getbinval(tuple, desc, 5, &isnull));
		offset->commits = DatumGetInt64(SPI_getbinval(tuple, desc, 6, &isnull));
		offset->finished = DatumGetByteaPCopy(SPI_getbinval(tuple, desc, 7, &isnull));
		offset->lost = DatumGetBool(SPI_getbinval(tuple, desc, 8, &isnull));
		offset->start_offset = DatumGetInt64(SPI_getbinval(tuple, desc, 9, &isnull));
		offset->check = ps_fingerprint_read(tuple, desc, 10);
		offset->topic = SPI_getvalue(tuple, desc, 13);
		check_row(offset);
		offsets = lappend(offsets, offset);
	}
	return offsets;
}

void
ps_stream_add_partition(int stream_id, const PsPosition *start)
{
	Datum		args[4] = {Int32GetDatum(stream_id), Int32GetDatum(start->topic_no), Int32GetDatum(start->partition), Int64GetDatum(start->offset)};

	(void) ps_plan_run(&add_partition_plan, args, NULL, SPI_OK_INSERT);
}

int64
ps_stream_lag(int stream_id)
{
	Datum		args[1] = {Int32GetDatum(stream_id)};

	return ps_plan_number(&lag_plan, args);
}

void
ps_stream_note_end(int stream_id, const PsPosition *end)
{
	Datum		args[4] = {Int32GetDatum(stream_id), Int32GetDatum(end->topic_no), Int32GetDatum(end->partition), Int64GetDatum(end->offset)};

	(void) ps_plan_run(&end_plan, args, NULL, SPI_OK_UPDATE);
}

void
ps_stream_note_refused(int stream_id, int32 topic_no, int32 partition, const char *error)
{
	Datum		args[4] = {Int32GetDatum(stream_id), Int32GetDatum(topic_no), Int32GetDatum(partition), CStringGetTextDatum(error)};

	(void) ps_plan_run(&refused_plan, args, NULL, SPI_OK_UPDATE);
}

void
ps_stream_lose_partition(int stream_id, const PsStoredOffset *row, const char *error, bool new_epoch)
{
	Datum		args[5] = {Int32GetDatum(stream_id), Int32GetDatum(row->topic_no), Int32GetDatum(row->partition), CStringGetTextDatum(error),
	BoolGetDatum(new_epoch)};

	(void) ps_plan_run(&lose_plan, args, NULL, SPI_OK_UPDATE);
	ps_state_log_partition(stream_id, row->topic_no, row->partition, PS_STATE_RUNNING, PS_STATE_OFFSET_LOST, error);
}

void
ps_stream_jump(int stream_id, const PsStoredOffset *after, const PsJump *jump)
{
	Datum		args[12] = {Int32GetDatum(stream_id), Int32GetDatum(after->partition), Int64GetDatum(jump->expected_offset),
		Int64GetDatum(jump->to_offset), CStringGetTextDatum(jump->reason), Int64GetDatum(after->next_offset),
		Int64GetDatum(after->read_offset), PointerGetDatum(after->finished), Int64GetDatum(jump->held),
	BoolGetDatum(jump->new_epoch), Int32GetDatum(after->topic_no), Int64GetDatum(jump->from_offset)};

	(void) ps_plan_run(&jump_plan, args, NULL, SPI_OK_INSERT);
	if (after->lost)
		ps_state_log_partition(stream_id, after->topic_no, after->partition, PS_STATE_OFFSET_LOST, PS_STATE_RUNNING, jump->reason);
}

void
ps_stream_seek(int stream_id, const PsPosition *to, bool new_epoch)
{
	Datum		args[5] = {Int32GetDatum(stream_id), Int32GetDatum(to->partition), Int64GetDatum(to->offset),
	BoolGetDatum(new_epoch), Int32GetDatum(to->topic_no)};

	(void) ps_plan_run(&seek_plan, args, NULL, SPI_OK_INSERT);
}

void
ps_stream_align(int stream_id, PsStoredOffset *row, int64 next_offset, bool new_epoch)
{
	Datum		args[5] = {Int32GetDatum(stream_id), Int32GetDatum(row->topic_no), Int32GetDatum(row->partition), Int64GetDatum(next_offset),
	BoolGetDatum(new_epoch)};

	(void) ps_plan_run(&align_plan, args, NULL, SPI_OK_UPDATE);
	if (row->lost)
		ps_state_log_partition(stream_id, row->topic_no, row->partition, PS_STATE_OFFSET_LOST, PS_STATE_RUNNING, "shards are read from their offsets");
	ps_stored_offset_move(row, next_offset);
	row->epoch += new_epoch;
	row->check.offset = -1;
	row->commits++;
	row->lost = false;
}

void
ps_stored_offset_move(PsStoredOffset *row, int64 next_offset)
{
	row->next_offset = row->read_offset = next_offset;
	row->finished = palloc(VARHDRSZ);
	SET_VARSIZE(row->finished, VARHDRSZ);
}

bool
ps_stream_reached(int stream_id, const PsPartitionEnd *ends, int n)
{
	List	   *rows = ps_stream_offsets(stream_id);
	int			reached = 0;

	for (int i = 0; i < n; i++)
	{
		ListCell   *cell;

		foreach(cell, rows)
		{
			PsStoredOffset *row = lfirst(cell);

			if (strcmp(row->topic, ends[i].topic) == 0 && row->partition == ends[i].partition && row->next_offset >= ends[i].offset)
				reached++;
		}
	}
	return reached == n;
}

bool
ps_stream_reached_on_nodes(const char *name, const PsPartitionEnd *ends, int n)
{
	PsColumn	topics;
	PsColumn	partitions;
	PsColumn	offsets;
	Datum		args[4] = {CStringGetTextDatum(name)};
	const char *answer;

	ps_column_init(&topics, TEXTOID, n);
	ps_column_init(&partitions, INT4OID, n);
	ps_column_init(&offsets, INT8OID, n);
	for (int i = 0; i < n; i++)
	{
		ps_column_add_text(&topics, ends[i].topic);
		ps_column_add(&partitions, Int32GetDatum(ends[i].partition));
		ps_column_add(&offsets, Int64GetDatum(ends[i].offset));
	}
	args[1] = ps_column_array(&topics);
	args[2] = ps_column_array(&partitions);
	args[3] = ps_column_array(&offsets);
	if (ps_plan_read(&reached_on_nodes_plan, args) == 0)
		return true;
	answer = ps_plan_text(0, 1);
	if (answer != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("not all nodes say how far stream \"%s\" is", name),
				 errdetail("%s", answer),
				 errhint("Call it again when all nodes run. profile_stream.node_health tells what is wrong.")));
	return false;
}

bool
ps_stream_has_unread(const char *name)
{
	Datum		args[1] = {CStringGetTextDatum(name)};

	return ps_plan_read(&unread_plan, args) > 0;
}
