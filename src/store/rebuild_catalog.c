/*
 * rebuild_catalog.c
 *	  The SQL of stream_rebuilds, and of stream_offsets in both schemas as far as a
 *	  rebuild needs it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/offset_set.h"
#include "miscadmin.h"
#include "settings.h"
#include "store/locks.h"
#include "store/plan.h"
#include "store/rebuild_catalog.h"
#include "store/rebuild_schema.h"
#include "store/state_log.h"
#include "store/stream_catalog.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static PsPlan find_plan = {
	.sql = "SELECT b.stream_id, s.name, b.allow_missing, COALESCE(t.enabled, false), t.state, b.started_at"
	" FROM profile_stream_internal.stream_rebuilds b JOIN profile_stream.streams s ON s.stream_id = b.stream_id"
	" LEFT JOIN " PS_REBUILD_SCHEMA ".stream_status t ON t.stream_id = b.stream_id"
	" WHERE b.database = $1 ORDER BY b.stream_id",
	.nargs = 1,.argtypes = {OIDOID}
};

static PsPlan describe_plan = {
	.sql = "SELECT r.state = 'ready', pg_catalog.concat_ws(': ', r.state, r.error), r.stream FROM profile_stream.stat_rebuilds r"
	" ORDER BY r.state = 'ready', r.error IS NULL, r.stream LIMIT 1",
	.fixed_schema = true
};

static PsPlan other_plan = {
	.sql = "SELECT s.name FROM profile_stream.streams s WHERE NOT EXISTS"
	" (SELECT FROM profile_stream_internal.stream_rebuilds b WHERE b.stream_id = s.stream_id) ORDER BY 1 LIMIT 1"
};

/* deletes all rows: those of another database came with a template and belong to no rebuild */
static PsPlan forget_plan = {
	.sql = "DELETE FROM profile_stream_internal.stream_rebuilds"
};

static PsPlan empty_plan = {
	.sql = "TRUNCATE " PS_REBUILD_SCHEMA ".stream_offsets, " PS_REBUILD_SCHEMA ".stream_status, "
	PS_REBUILD_SCHEMA ".stream_gaps, " PS_REBUILD_SCHEMA ".materialized_profiles, "
	PS_REBUILD_SCHEMA ".window_chunks, " PS_REBUILD_SCHEMA ".event_id_chunks, " PS_REBUILD_SCHEMA ".dead_letters, "
	PS_REBUILD_SCHEMA ".profile_history"
};

static PsPlan add_plan = {
	.sql = "INSERT INTO profile_stream_internal.stream_rebuilds (stream_id, database, allow_missing, started_at)"
	" VALUES ($1, $2, $3, pg_catalog.clock_timestamp())",
	.nargs = 3,.argtypes = {INT4OID, OIDOID, BOOLOID}
};

/* the status of a worker that ran before must not be shown */
static PsPlan forget_status_plan = {
	.sql = "DELETE FROM " PS_REBUILD_SCHEMA ".stream_status t WHERE t.stream_id = $1",
	.nargs = 1,.argtypes = {INT4OID}
};

static PsPlan add_status_plan = {
	.sql = "INSERT INTO " PS_REBUILD_SCHEMA ".stream_status (stream_id, database, enabled, state, changed_at, cluster)"
	" VALUES ($1, $2, $3, 'starting', pg_catalog.clock_timestamp(), $4)",
	.nargs = 4,.argtypes = {INT4OID, OIDOID, BOOLOID, TEXTOID}
};

static PsPlan state_plan = {
	.sql = "WITH o AS (SELECT t.state AS from_state, t.since FROM " PS_REBUILD_SCHEMA ".stream_status t WHERE t.stream_id = $1 FOR UPDATE),"
	" n AS (UPDATE " PS_REBUILD_SCHEMA ".stream_status t SET state = $2, error = $3, hint = $4,"
	" error_at = pg_catalog.clock_timestamp(), next_attempt_at = NULL, changed_at = pg_catalog.clock_timestamp(),"
	" since = CASE WHEN t.state = $2 THEN t.since ELSE pg_catalog.clock_timestamp() END WHERE t.stream_id = $1),"
	" l AS (" PS_STATE_LOG_ADD("o.from_state <> $2", "$1", "'rebuild'", "NULL", "$2", "$3", "$4") ") "
	PS_STATE_LOG_RESULT,
	.nargs = 4,.argtypes = {INT4OID, TEXTOID, TEXTOID, TEXTOID}
};

static PsPlan resumed_plan = {
	.sql = "UPDATE profile_stream_internal.stream_rebuilds b SET resumed_at = pg_catalog.clock_timestamp(),"
	" resumed_done = (SELECT COALESCE(pg_catalog.sum(o.next_offset - o.start_offset), 0)::int8"
	" FROM " PS_REBUILD_SCHEMA ".stream_offsets o WHERE o.stream_id = $1) WHERE b.stream_id = $1",
	.nargs = 1,.argtypes = {INT4OID}
};

static PsPlan add_partition_plan = {
	.sql = "INSERT INTO " PS_REBUILD_SCHEMA ".stream_offsets (stream_id, topic_no, partition, epoch, start_offset, next_offset, read_offset, end_offset)"
	" VALUES ($1, $6, $2, $3, $4, $4, $4, $5)",
	.nargs = 6,.argtypes = {INT4OID, INT4OID, INT4OID, INT8OID, INT8OID, INT4OID}
};

static PsPlan add_gap_plan = {
	.sql = "INSERT INTO " PS_REBUILD_SCHEMA ".stream_gaps (stream_id, topic_no, partition, from_offset, to_offset, reason, recorded_at)"
	" VALUES ($1, $5, $2, $3, $4, 'rebuild', pg_catalog.clock_timestamp())",
	.nargs = 5,.argtypes = {INT4OID, INT4OID, INT8OID, INT8OID, INT4OID}
};

/* a seek may have gone back before the start of the stream; one before the last rebuild does not count */
static PsPlan starts_plan = {
	.sql = "SELECT o.topic_no, o.partition, o.epoch, LEAST(o.start_offset, (SELECT pg_catalog.min(g.to_offset) FROM profile_stream_internal.stream_gaps g"
	" WHERE g.stream_id = o.stream_id AND g.topic_no = o.topic_no AND g.partition = o.partition AND g.reason = 'seek' AND NOT EXISTS (SELECT"
	" FROM profile_stream_internal.stream_gaps l WHERE l.stream_id = g.stream_id AND l.topic_no = g.topic_no AND l.partition = g.partition"
	" AND l.reason = 'rebuild' AND l.recorded_at > g.recorded_at))), t.topic"
	" FROM profile_stream_internal.stream_offsets o LEFT JOIN profile_stream_internal.stream_topics t ON t.stream_id = o.stream_id AND t.topic_no = o.topic_no"
	" WHERE o.stream_id = $1 ORDER BY 1, 2",
	.nargs = 1,.argtypes = {INT4OID},.fixed_schema = true
};

/* a rebuild does not wait for partitions that the stream has lost; nor, with allow_missing, for those that it cannot read at all */
static PsPlan behind_plan = {
	.sql = "SELECT o.start_offset, o.next_offset, o.read_offset, o.finished, COALESCE(n.epoch >= o.epoch, false),"
	" COALESCE(n.epoch > o.epoch, false), n.next_offset, n.finished, r.is_read,"
	" pg_catalog.format('partition %s', o.partition) || COALESCE(pg_catalog.format(' of topic \"%s\"', t.topic), '')"
	" FROM profile_stream_internal.stream_offsets o LEFT JOIN " PS_REBUILD_SCHEMA ".stream_offsets n"
	" ON n.stream_id = o.stream_id AND n.topic_no = o.topic_no AND n.partition = o.partition"
	" JOIN profile_stream.streams s ON s.stream_id = o.stream_id JOIN profile_stream_internal.stream_rebuilds b ON b.stream_id = o.stream_id"
	" LEFT JOIN profile_stream_internal.stream_topics t ON t.stream_id = o.stream_id AND t.topic_no = o.topic_no"
	" CROSS JOIN LATERAL (SELECT COALESCE((s.partitions IS NULL OR o.partition = ANY (s.partitions))"
	" AND (t.topic IS NULL OR s.topic = t.topic OR t.topic = ANY (s.topics) OR t.pattern = s.topic_pattern), false) AS is_read) r"
	" WHERE o.stream_id = $1 AND o.state = 'running' AND (n.stream_id IS NOT NULL OR NOT b.allow_missing"
	" OR (r.is_read AND t.state IS DISTINCT FROM 'missing'))",
	.nargs = 1,.argtypes = {INT4OID},.fixed_schema = true
};

static PsPlan apart_plan = {
	.sql = "SELECT COALESCE(pg_catalog.sum(pg_catalog.abs(COALESCE(o.next_offset, n.start_offset) - COALESCE(n.next_offset, o.start_offset))), 0)::int8"
	" FROM (SELECT * FROM profile_stream_internal.stream_offsets WHERE stream_id = $1) o"
	" FULL JOIN (SELECT * FROM " PS_REBUILD_SCHEMA ".stream_offsets WHERE stream_id = $1) n ON n.topic_no = o.topic_no AND n.partition = o.partition",
	.nargs = 1,.argtypes = {INT4OID},.fixed_schema = true
};

/* A value of the last result. */
static Datum
rebuild_catalog_column_value(uint64 row, int column)
{
	bool		isnull;

	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);
}

List *
ps_rebuilds(void)
{
	Datum		args[1] = {ObjectIdGetDatum(MyDatabaseId)};
	uint64		n = ps_plan_run(&find_plan, args, NULL, SPI_OK_SELECT);
	List	   *rebuilds = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		PsRebuild  *rebuild = palloc0(sizeof(PsRebuild));

		rebuild->stream_id = DatumGetInt32(rebuild_catalog_column_value(i, 1));
		rebuild->stream = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);
		rebuild->allow_missing = DatumGetBool(rebuild_catalog_column_value(i, 3));
		rebuild->enabled = DatumGetBool(rebuild_catalog_column_value(i, 4));
		rebuild->started_at = DatumGetTimestampTz(rebuild_catalog_column_value(i, 6));
		rebuild->state = ps_state_parse(SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 5));
		rebuilds = lappend(rebuilds, rebuild);
	}
	return rebuilds;
}

PsRebuild *
ps_rebuild_find(int stream_id)
{
	ListCell   *cell;

	foreach(cell, ps_rebuilds())
	{
		PsRebuild  *rebuild = lfirst(cell);

		if (stream_id == 0 || rebuild->stream_id == stream_id)
			return rebuild;
	}
	return NULL;
}

PsRebuildState
ps_rebuild_state(void)
{
	PsRebuildState state = {false, NULL, "ended"};

	if (ps_plan_run(&describe_plan, NULL, NULL, SPI_OK_SELECT) == 0)
		return state;
	state.ready = DatumGetBool(rebuild_catalog_column_value(0, 1));
	state.state = ps_plan_text(0, 2);
	state.stream = ps_plan_text(0, 3);
	return state;
}

char *
ps_rebuild_other_stream(void)
{
	if (ps_plan_run(&other_plan, NULL, NULL, SPI_OK_SELECT) == 0)
		return NULL;
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

void
ps_rebuild_end(void)
{
	ps_lock_copy(true, AccessExclusiveLock);
	(void) ps_plan_run(&empty_plan, NULL, NULL, SPI_OK_UTILITY);
	(void) ps_plan_run(&forget_plan, NULL, NULL, SPI_OK_DELETE);
	ps_stream_tell_workers();
}

void
ps_rebuild_add(int stream_id, bool allow_missing)
{
	Datum		args[3] = {Int32GetDatum(stream_id), ObjectIdGetDatum(MyDatabaseId), BoolGetDatum(allow_missing)};

	(void) ps_plan_run(&add_plan, args, NULL, SPI_OK_INSERT);
	ps_rebuild_enable(stream_id, true);
}

void
ps_rebuild_enable(int stream_id, bool enabled)
{
	Datum		args[4] = {Int32GetDatum(stream_id), ObjectIdGetDatum(MyDatabaseId), BoolGetDatum(enabled),
	CStringGetTextDatum(ps_cluster_here())};

	(void) ps_plan_run(&forget_status_plan, args, NULL, SPI_OK_DELETE);
	(void) ps_plan_run(&add_status_plan, args, NULL, SPI_OK_INSERT);
	ps_stream_tell_workers();
}

void
ps_rebuild_set_state(int stream_id, PsStreamState state, const char *error, const char *hint)
{
	Datum		args[4] = {Int32GetDatum(stream_id), CStringGetTextDatum(ps_state_names[state]), CStringGetTextDatum(error), CStringGetTextDatum(hint)};
	PsStateChange change;

	ps_state_log_finish(ps_plan_run(&state_plan, args, NULL, SPI_OK_SELECT), &change);
}

void
ps_rebuild_note_resumed(int stream_id)
{
	Datum		args[1] = {Int32GetDatum(stream_id)};

	(void) ps_plan_run(&resumed_plan, args, NULL, SPI_OK_UPDATE);
}

void
ps_rebuild_add_partition(int stream_id, const PsRebuildStart *start, int64 end_offset)
{
	Datum		args[6] = {Int32GetDatum(stream_id), Int32GetDatum(start->partition), Int32GetDatum(start->epoch),
	Int64GetDatum(start->start_offset), Int64GetDatum(end_offset), Int32GetDatum(start->topic_no)};

	(void) ps_plan_run(&add_partition_plan, args, NULL, SPI_OK_INSERT);
}

void
ps_rebuild_add_gap(int stream_id, const PsRebuildStart *start, int64 low)
{
	Datum		args[5] = {Int32GetDatum(stream_id), Int32GetDatum(start->partition), Int64GetDatum(start->start_offset),
	Int64GetDatum(low), Int32GetDatum(start->topic_no)};

	(void) ps_plan_run(&add_gap_plan, args, NULL, SPI_OK_INSERT);
}

List *
ps_rebuild_starts(int stream_id)
{
	Datum		args[1] = {Int32GetDatum(stream_id)};
	uint64		n = ps_plan_run(&starts_plan, args, NULL, SPI_OK_SELECT);
	List	   *starts = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		PsRebuildStart *start = palloc(sizeof(PsRebuildStart));

		start->topic_no = DatumGetInt32(rebuild_catalog_column_value(i, 1));
		start->partition = DatumGetInt32(rebuild_catalog_column_value(i, 2));
		start->epoch = DatumGetInt32(rebuild_catalog_column_value(i, 3));
		start->start_offset = DatumGetInt64(rebuild_catalog_column_value(i, 4));
		start->topic = ps_plan_text(i, 5);
		starts = lappend(starts, start);
	}
	return starts;
}

/* How many messages of a partition, which is a row of behind_plan, are finished by the stream and not by the rebuild. */
static int64
partition_behind(uint64 row)
{
	int64		next = DatumGetInt64(rebuild_catalog_column_value(row, 2));
	int64		read = DatumGetInt64(rebuild_catalog_column_value(row, 3));
	int64		behind = 0;
	PsOffsetSet now;
	PsOffsetSet rebuilt;

	if (!DatumGetBool(rebuild_catalog_column_value(row, 5)))
		return next - DatumGetInt64(rebuild_catalog_column_value(row, 1)) + 1;	/* the rebuild has not begun this
																				 * partition */
	if (DatumGetBool(rebuild_catalog_column_value(row, 6)))
		return 0;				/* the rebuild has seen that the topic was re-created */
	ps_offset_set_init(&now, next, DatumGetByteaPP(rebuild_catalog_column_value(row, 4)), CurrentMemoryContext);
	ps_offset_set_init(&rebuilt, DatumGetInt64(rebuild_catalog_column_value(row, 7)), DatumGetByteaPP(rebuild_catalog_column_value(row, 8)), CurrentMemoryContext);
	if (rebuilt.next < next)
		return next - rebuilt.next;
	/* behind its last mark nothing is finished, whatever read_offset says */
	for (int64 offset = rebuilt.next; offset < Min(read, now.until); offset++)
		behind += ps_offset_set_finished(&now, offset) && !ps_offset_set_finished(&rebuilt, offset);
	return behind;
}

int64
ps_rebuild_behind(int stream_id, char **left)
{
	Datum		args[1] = {Int32GetDatum(stream_id)};
	uint64		n = ps_plan_run(&behind_plan, args, NULL, SPI_OK_SELECT);
	int64		behind = 0;

	*left = NULL;
	for (uint64 i = 0; i < n; i++)
	{
		int64		messages = partition_behind(i);

		if (messages > 0 && !DatumGetBool(rebuild_catalog_column_value(i, 9)))
			*left = ps_plan_text(i, 10);
		behind += messages;
	}
	SPI_freetuptable(SPI_tuptable);
	return behind;
}

int64
ps_rebuild_apart(int stream_id)
{
	Datum		args[1] = {Int32GetDatum(stream_id)};

	(void) ps_plan_read(&apart_plan, args);
	return DatumGetInt64(rebuild_catalog_column_value(0, 1));
}

/* only when everything before the gap is applied, so that no held message is lost */
static PsPlan skip_plan = {
	.sql = "UPDATE " PS_REBUILD_SCHEMA ".stream_offsets o SET next_offset = g.to_offset, read_offset = g.to_offset, finished = '',"
	" consumed = o.consumed - o.held, held = 0, held_bytes = 0, commits = o.commits + 1, check_offset = NULL, error = NULL"
	" FROM profile_stream_internal.stream_gaps g WHERE o.stream_id = $1 AND o.topic_no = $4 AND o.partition = $2 AND g.stream_id = $1 AND g.topic_no = $4 AND g.partition = $2"
	" AND g.from_offset <= o.next_offset AND g.to_offset > o.next_offset AND g.from_offset <= $3 AND g.to_offset > $3",
	.nargs = 4,.argtypes = {INT4OID, INT4OID, INT8OID, INT4OID},.fixed_schema = true
};

bool
ps_rebuild_skip(int stream_id, const PsPosition *refused)
{
	Datum		args[4] = {Int32GetDatum(stream_id), Int32GetDatum(refused->partition), Int64GetDatum(refused->offset), Int32GetDatum(refused->topic_no)};

	return ps_plan_run(&skip_plan, args, NULL, SPI_OK_UPDATE) > 0;
}

void
ps_rebuild_adjust(PsStream *stream)
{
	static TimestampTz began = 0;	/* the rebuild that this process works for; 0: not known yet */
	PsRebuild  *rebuild = ps_rebuild_find(stream->stream_id);

	/* the next rebuild has a process of its own, which waits for this one to end */
	if (rebuild == NULL || (began != 0 && rebuild->started_at != began))
	{
		stream->enabled = false;
		return;
	}
	began = rebuild->started_at;
	stream->start_from = "earliest";
	stream->notify = "off";
	stream->workers = 1;
	stream->dead_letter_pause_ratio = 1;	/* never: the stream has had these dead letters too */
	stream->on_offset_lost = rebuild->allow_missing ? "earliest" : "stop";
}
