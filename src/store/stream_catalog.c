/*
 * stream_catalog.c
 *	  The SQL of streams, stream_status, stream_offsets and stream_gaps. Called
 *	  by the worker and by the functions that control streams.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "store/plan.h"
#include "store/stream_catalog.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

static PsPlan find_plan = {
	"SELECT s.stream_id, s.name, s.owner::text, s.server::text, s.brokers, s.topic, s.group_id, s.start_from,"
	" s.batch_size, (EXTRACT(epoch FROM s.batch_wait) * 1000)::int4, (EXTRACT(epoch FROM s.dedupe_retention) * 1000000)::int8,"
	" s.on_offset_lost, s.notify_channel, s.notify, s.options,"
	" (EXTRACT(epoch FROM s.reorder_wait) * 1000000)::int8, s.reorder_buffer_size,"
	" COALESCE((EXTRACT(epoch FROM s.late_tolerance) * 1000000)::int8, -1),"
	" COALESCE(t.enabled AND t.database = $3, false)"
	" FROM profile_stream.streams s LEFT JOIN profile_stream.stream_status t ON t.stream_id = s.stream_id"
	" WHERE s.name = $1 OR s.stream_id = $2",
	3, {TEXTOID, INT4OID, OIDOID}
};

static PsPlan add_plan = {
	"WITH s AS (INSERT INTO profile_stream.streams (name, owner, server, brokers, topic, group_id, start_from,"
	" batch_size, batch_wait, dedupe_retention, on_offset_lost, notify_channel, notify, options,"
	" reorder_wait, reorder_buffer_size, late_tolerance, created_at)"
	" VALUES ($1, $2::name, $3::name, $4, $5, $6, $7, $8, $9 * '1 ms'::interval, $10 * '1 us'::interval, $11, $12, $13, $14,"
	" $15 * '1 us'::interval, $16, $17 * '1 us'::interval, pg_catalog.now()) RETURNING stream_id), t AS ("
	" INSERT INTO profile_stream.stream_status (stream_id, database, enabled, state, changed_at)"
	" SELECT s.stream_id, $18, true, 'starting', pg_catalog.now() FROM s)"
	" SELECT s.stream_id FROM s",
	18, {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, INT4OID, INT8OID, TEXTOID,
	TEXTOID, TEXTOID, JSONBOID, INT8OID, INT4OID, INT8OID, OIDOID}
};

static PsPlan drop_plan = {
	"DELETE FROM profile_stream.streams s WHERE s.stream_id = $1", 1, {INT4OID}
};

static PsPlan enable_plan = {
	"INSERT INTO profile_stream.stream_status AS t (stream_id, database, enabled, state, changed_at)"
	" VALUES ($1, $2, $3, 'starting', pg_catalog.now())"
	" ON CONFLICT (stream_id) DO UPDATE SET database = $2, enabled = $3, state = 'starting', error = NULL,"
	" hint = NULL, error_at = NULL, next_attempt_at = NULL, changed_at = pg_catalog.now()",
	3, {INT4OID, OIDOID, BOOLOID}
};

static PsPlan enabled_plan = {
	"SELECT t.stream_id FROM profile_stream.stream_status t WHERE t.enabled AND t.database = $1 ORDER BY 1",
	1, {OIDOID}
};

static PsPlan state_plan = {
	"UPDATE profile_stream.stream_status t SET state = $2, error = $3, hint = $4,"
	" error_at = CASE WHEN $3 IS NULL THEN NULL ELSE pg_catalog.clock_timestamp() END,"
	" next_attempt_at = pg_catalog.clock_timestamp() + $5 * '1 ms'::interval, changed_at = pg_catalog.clock_timestamp()"
	" WHERE t.stream_id = $1",
	5, {INT4OID, TEXTOID, TEXTOID, TEXTOID, INT8OID}
};

static PsPlan offsets_plan = {
	"SELECT o.partition, o.epoch, o.next_offset, o.read_offset, o.commits, o.finished, o.state = 'offset_lost'"
	" FROM profile_stream.stream_offsets o WHERE o.stream_id = $1 ORDER BY 1",
	1, {INT4OID}
};

static PsPlan add_partition_plan = {
	"INSERT INTO profile_stream.stream_offsets (stream_id, partition, start_offset, next_offset, read_offset)"
	" VALUES ($1, $2, $3, $3, $3)",
	3, {INT4OID, INT4OID, INT8OID}
};

static PsPlan lose_plan = {
	"UPDATE profile_stream.stream_offsets o SET state = 'offset_lost', error = $3"
	" WHERE o.stream_id = $1 AND o.partition = $2",
	3, {INT4OID, INT4OID, TEXTOID}
};

/* what was held and is not any more was never consumed */
static PsPlan jump_plan = {
	"WITH o AS (UPDATE profile_stream.stream_offsets o SET next_offset = $6, read_offset = $7, finished = $8,"
	" consumed = o.consumed - o.held + $9, held = $9, commits = o.commits + 1,"
	" epoch = o.epoch + ($4 < $3)::int, state = 'running', error = NULL"
	" WHERE o.stream_id = $1 AND o.partition = $2 AND o.next_offset = $3 RETURNING 1)"
	" INSERT INTO profile_stream.stream_gaps (stream_id, partition, from_offset, to_offset, reason, recorded_at)"
	" SELECT $1, $2, $3, $4, $5, pg_catalog.clock_timestamp() FROM o",
	9, {INT4OID, INT4OID, INT8OID, INT8OID, TEXTOID, INT8OID, INT8OID, BYTEAOID, INT8OID}
};

/* what a user may see of a stream */
static PsPlan describe_plan = {
	"SELECT pg_catalog.concat_ws(': ', s.state, s.error) FROM profile_stream.stat_streams s WHERE s.stream = $1",
	1, {TEXTOID}
};

/* Column of the first row as C string, NULL when null. */
static char *
column_text(int column)
{
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
}

static Datum
column_value(int column)
{
	bool		isnull;

	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);
}

/* Tells the workers of this database to look at their rows again. */
static void
tell_workers(void)
{
	Oid			relid = get_relname_relid("stream_status", get_namespace_oid(PS_SCHEMA, false));

	if (OidIsValid(relid))
		CacheInvalidateRelcacheByRelid(relid);
}

PsStream *
ps_stream_find(const char *name, int stream_id)
{
	Datum		args[3];
	char		nulls[3] = {name == NULL ? 'n' : ' ', name == NULL ? ' ' : 'n', ' '};
	PsStream   *stream;

	args[0] = name == NULL ? (Datum) 0 : CStringGetTextDatum(name);
	args[1] = Int32GetDatum(stream_id);
	args[2] = ObjectIdGetDatum(MyDatabaseId);
	if (ps_plan_run(&find_plan, args, nulls, SPI_OK_SELECT) == 0)
		return NULL;
	stream = palloc0(sizeof(PsStream));
	stream->stream_id = DatumGetInt32(column_value(1));
	stream->name = column_text(2);
	stream->owner = column_text(3);
	stream->server = column_text(4);
	stream->brokers = column_text(5);
	stream->topic = column_text(6);
	stream->group_id = column_text(7);
	stream->start_from = column_text(8);
	stream->batch_size = DatumGetInt32(column_value(9));
	stream->batch_wait_ms = DatumGetInt32(column_value(10));
	stream->dedupe_retention_us = DatumGetInt64(column_value(11));
	stream->on_offset_lost = column_text(12);
	stream->notify_channel = column_text(13);
	stream->notify = column_text(14);
	stream->options = DatumGetJsonbPCopy(column_value(15));
	stream->reorder_wait_us = DatumGetInt64(column_value(16));
	stream->reorder_buffer_size = DatumGetInt32(column_value(17));
	stream->late_tolerance_us = DatumGetInt64(column_value(18));
	stream->enabled = DatumGetBool(column_value(19));
	return stream;
}

static Datum
optional_text(const char *text, char *null)
{
	*null = text == NULL ? 'n' : ' ';
	return text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

void
ps_stream_add(PsStream *stream)
{
	Datum		args[18];
	char		nulls[18];

	memset(nulls, ' ', sizeof(nulls));
	args[0] = CStringGetTextDatum(stream->name);
	args[1] = CStringGetTextDatum(stream->owner);
	args[2] = optional_text(stream->server, &nulls[2]);
	args[3] = optional_text(stream->brokers, &nulls[3]);
	args[4] = CStringGetTextDatum(stream->topic);
	args[5] = CStringGetTextDatum(stream->group_id);
	args[6] = CStringGetTextDatum(stream->start_from);
	args[7] = Int32GetDatum(stream->batch_size);
	args[8] = Int32GetDatum(stream->batch_wait_ms);
	args[9] = Int64GetDatum(stream->dedupe_retention_us);
	args[10] = CStringGetTextDatum(stream->on_offset_lost);
	args[11] = CStringGetTextDatum(stream->notify_channel);
	args[12] = CStringGetTextDatum(stream->notify);
	args[13] = JsonbPGetDatum(stream->options);
	args[14] = Int64GetDatum(stream->reorder_wait_us);
	args[15] = Int32GetDatum(stream->reorder_buffer_size);
	args[16] = Int64GetDatum(stream->late_tolerance_us);
	if (stream->late_tolerance_us < 0)
		nulls[16] = 'n';
	args[17] = ObjectIdGetDatum(MyDatabaseId);
	(void) ps_plan_run(&add_plan, args, nulls, SPI_OK_SELECT);
	stream->stream_id = DatumGetInt32(column_value(1));
}

void
ps_stream_drop(int stream_id)
{
	Datum		args[1] = {Int32GetDatum(stream_id)};

	(void) ps_plan_run(&drop_plan, args, NULL, SPI_OK_DELETE);
	tell_workers();
}

void
ps_stream_enable(int stream_id, bool enabled)
{
	Datum		args[3] = {Int32GetDatum(stream_id), ObjectIdGetDatum(MyDatabaseId), BoolGetDatum(enabled)};

	(void) ps_plan_run(&enable_plan, args, NULL, SPI_OK_INSERT);
	tell_workers();
}

List *
ps_streams_enabled(void)
{
	Datum		args[1] = {ObjectIdGetDatum(MyDatabaseId)};
	uint64		n = ps_plan_run(&enabled_plan, args, NULL, SPI_OK_SELECT);
	List	   *ids = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		ids = lappend_int(ids, DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)));
	}
	return ids;
}

void
ps_stream_set_state(int stream_id, const char *state, const char *error, const char *hint, int64 next_attempt_ms)
{
	Datum		args[5];
	char		nulls[5] = {' ', ' ', ' ', ' ', next_attempt_ms < 0 ? 'n' : ' '};

	args[0] = Int32GetDatum(stream_id);
	args[1] = CStringGetTextDatum(state);
	args[2] = optional_text(error, &nulls[2]);
	args[3] = optional_text(hint, &nulls[3]);
	args[4] = Int64GetDatum(next_attempt_ms);
	(void) ps_plan_run(&state_plan, args, nulls, SPI_OK_UPDATE);
}

List *
ps_stream_offsets(int stream_id)
{
	Datum		args[1] = {Int32GetDatum(stream_id)};
	uint64		n = ps_plan_run(&offsets_plan, args, NULL, SPI_OK_SELECT);
	List	   *offsets = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		PsStoredOffset *offset = palloc(sizeof(PsStoredOffset));
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		offset->partition = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
		offset->epoch = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull));
		offset->next_offset = DatumGetInt64(SPI_getbinval(tuple, desc, 3, &isnull));
		offset->read_offset = DatumGetInt64(SPI_getbinval(tuple, desc, 4, &isnull));
		offset->commits = DatumGetInt64(SPI_getbinval(tuple, desc, 5, &isnull));
		offset->finished = DatumGetByteaPCopy(SPI_getbinval(tuple, desc, 6, &isnull));
		offset->lost = DatumGetBool(SPI_getbinval(tuple, desc, 7, &isnull));
		offsets = lappend(offsets, offset);
	}
	return offsets;
}

void
ps_stream_add_partition(int stream_id, int partition, int64 start_offset)
{
	Datum		args[3] = {Int32GetDatum(stream_id), Int32GetDatum(partition), Int64GetDatum(start_offset)};

	(void) ps_plan_run(&add_partition_plan, args, NULL, SPI_OK_INSERT);
}

void
ps_stream_lose_partition(int stream_id, int partition, const char *error)
{
	Datum		args[3] = {Int32GetDatum(stream_id), Int32GetDatum(partition), CStringGetTextDatum(error)};

	(void) ps_plan_run(&lose_plan, args, NULL, SPI_OK_UPDATE);
}

void
ps_stream_jump(int stream_id, const PsStoredOffset *after, int64 from_offset, int64 to_offset, int64 held, const char *reason)
{
	Datum		args[9] = {Int32GetDatum(stream_id), Int32GetDatum(after->partition), Int64GetDatum(from_offset),
		Int64GetDatum(to_offset), CStringGetTextDatum(reason), Int64GetDatum(after->next_offset),
	Int64GetDatum(after->read_offset), PointerGetDatum(after->finished), Int64GetDatum(held)};

	(void) ps_plan_run(&jump_plan, args, NULL, SPI_OK_INSERT);
}

bool
ps_stream_reached(int stream_id, const int64 *ends, int n)
{
	ListCell   *cell;
	int			reached = 0;

	for (int i = 0; i < n; i++)
		if (ends[i] == PG_INT64_MIN)
			reached++;			/* not waited for */
	foreach(cell, ps_stream_offsets(stream_id))
	{
		PsStoredOffset *offset = lfirst(cell);

		if (offset->partition < n && ends[offset->partition] != PG_INT64_MIN &&
			offset->next_offset >= ends[offset->partition])
			reached++;
	}
	return reached == n;
}

char *
ps_stream_describe(const char *name)
{
	Datum		args[1] = {CStringGetTextDatum(name)};

	if (ps_plan_run(&describe_plan, args, NULL, SPI_OK_SELECT) == 0)
		return pstrdup("dropped");
	return column_text(1);
}
