/*
 * stream_catalog.c
 *	  The SQL of streams and stream_status, but what workers say there. Called by the worker and by the
 *	  functions that control streams.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "settings.h"
#include "store/confirmed_code.h"
#include "store/owner.h"
#include "store/plan.h"
#include "store/secret.h"
#include "store/stream_catalog.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/timestamp.h"

const char *const ps_sink_names[PS_SINK_KINDS] = {
	[PS_SINK_REDIS] = "redis",
	[PS_SINK_CHANGELOG] = "changelog",
	[PS_SINK_DEAD_LETTERS] = "dead_letters",
};

static PsPlan find_plan = {
	"SELECT s.stream_id, s.name, s.owner, s.server::text, s.bootstrap_servers, s.topic, s.group_id, s.start_from,"
	" s.batch_size, (EXTRACT(epoch FROM s.batch_wait) * 1000)::int4, (EXTRACT(epoch FROM s.dedupe_retention) * 1000000)::int8,"
	" s.on_offset_lost, s.notify_channel, s.notify, s.options,"
	" (EXTRACT(epoch FROM s.reorder_wait) * 1000000)::int8, s.reorder_buffer_size,"
	" COALESCE((EXTRACT(epoch FROM s.late_tolerance) * 1000000)::int8, -1),"
	" s.workers, s.partitions, s.dead_letter_pause_ratio, (EXTRACT(epoch FROM s.customer_lock_timeout) * 1000)::int4,"
	" s.redis, s.redis_prefix, EXTRACT(epoch FROM s.redis_ttl)::int4, s.changelog_topic, s.dead_letter_topic,"
	" s.segment_channel_prefix, s.format, s.field_map, s.timestamp_unit, s.event_id_scope,"
	" COALESCE(t.enabled AND t.database = $3, false) AND " PS_IS_CONFIRMED("stream", "s.stream_id::text") ", t.state, t.error, t.cluster"
	" FROM profile_stream.streams s LEFT JOIN profile_stream_internal.stream_status t ON t.stream_id = s.stream_id"
	" WHERE s.name = $1 OR s.stream_id = $2",
	3, {TEXTOID, INT4OID, OIDOID}
};

/* what create_stream() and alter_stream() both set */
#define SETTINGS \
	"server, bootstrap_servers, group_id, batch_size, batch_wait, dedupe_retention, on_offset_lost, notify_channel, notify, options," \
	" reorder_wait, reorder_buffer_size, late_tolerance, workers, partitions, dead_letter_pause_ratio, customer_lock_timeout, redis, redis_prefix, redis_ttl," \
	" changelog_topic, dead_letter_topic, segment_channel_prefix, format, field_map, timestamp_unit, event_id_scope"

#define SETTING_VALUES \
	"$1::name, $2, $3, $4, $5 * '1 ms'::interval, $6 * '1 us'::interval, $7, $8, $9, $10," \
	" $11 * '1 us'::interval, $12, $13 * '1 us'::interval, $14, $15, $16, $17 * '1 ms'::interval, $18, $19, $20 * '1 s'::interval, $21, $22, $23, $24, $25, $26, $27"

#define SETTING_TYPES \
	TEXTOID, TEXTOID, TEXTOID, INT4OID, INT8OID, INT8OID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, \
	INT8OID, INT4OID, INT8OID, INT4OID, INT4ARRAYOID, FLOAT8OID, INT8OID, TEXTOID, TEXTOID, INT4OID, TEXTOID, TEXTOID, \
	TEXTOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID

#define NSETTINGS 27

static PsPlan add_plan = {
	"WITH s AS (INSERT INTO profile_stream.streams (" SETTINGS ", name, owner, topic, start_from, created_at)"
	" VALUES (" SETTING_VALUES ", $28, $29, $30, $31, pg_catalog.now()) RETURNING stream_id), t AS ("
	" INSERT INTO profile_stream_internal.stream_status (stream_id, database, enabled, state, changed_at)"
	" SELECT s.stream_id, $32, true, 'starting', pg_catalog.now() FROM s)"
	" SELECT s.stream_id FROM s",
	NSETTINGS + 5, {SETTING_TYPES, TEXTOID, REGROLEOID, TEXTOID, TEXTOID, OIDOID}
};

static PsPlan alter_plan = {
	"UPDATE profile_stream.streams s SET (" SETTINGS ") = ROW(" SETTING_VALUES ") WHERE s.stream_id = $28",
	NSETTINGS + 1, {SETTING_TYPES, INT4OID}
};

static PsPlan give_plan = {
	"UPDATE profile_stream.streams s SET owner = $2 WHERE s.stream_id = $1", 2, {INT4OID, REGROLEOID}
};

static PsPlan drop_plan = {
	"DELETE FROM profile_stream.streams s WHERE s.stream_id = $1", 1, {INT4OID}
};

static PsPlan enable_plan = {
	"WITH o AS (SELECT (SELECT t.state FROM profile_stream_internal.stream_status t WHERE t.stream_id = $1 AND t.database = $2) AS from_state,"
	" (SELECT t.since FROM profile_stream_internal.stream_status t WHERE t.stream_id = $1 AND t.database = $2) AS since),"
	" n AS (INSERT INTO profile_stream_internal.stream_status AS t (stream_id, database, enabled, state, changed_at)"
	" VALUES ($1, $2, $3, $4, pg_catalog.now())"
	" ON CONFLICT (stream_id) DO UPDATE SET database = $2, enabled = $3, state = $4, attempts = 0, error = NULL,"
	" hint = NULL, error_at = NULL, next_attempt_at = NULL, changed_at = pg_catalog.now(), since = pg_catalog.clock_timestamp()),"
	" l AS (" PS_STATE_LOG_ADD("true", "$1", "'stream'", "NULL", "$4", "NULL", "NULL") ") "
	PS_STATE_LOG_RESULT,
	4, {INT4OID, OIDOID, BOOLOID, TEXTOID}
};

static PsPlan enabled_plan = {
	"SELECT t.stream_id FROM profile_stream_internal.stream_status t WHERE t.enabled AND t.database = $1"
	" AND t.state <> 'quarantined' AND " PS_IS_CONFIRMED("stream", "t.stream_id::text") " ORDER BY 1",
	1, {OIDOID}
};

static PsPlan stop_plan = {
	"WITH o AS (SELECT t.state AS from_state, t.since FROM profile_stream_internal.stream_status t WHERE t.stream_id = $1 FOR UPDATE),"
	" n AS (UPDATE profile_stream_internal.stream_status t SET enabled = false, state = 'paused', error = $2, hint = $3,"
	" error_at = pg_catalog.clock_timestamp(), next_attempt_at = NULL, changed_at = pg_catalog.clock_timestamp(),"
	" since = pg_catalog.clock_timestamp() WHERE t.stream_id = $1),"
	" l AS (" PS_STATE_LOG_ADD("true", "$1", "'stream'", "NULL", "'paused'", "$2", "$3") ") "
	PS_STATE_LOG_RESULT,
	3, {INT4OID, TEXTOID, TEXTOID}
};

static PsPlan attempts_plan = {
	"UPDATE profile_stream_internal.stream_status t SET attempts = GREATEST(t.attempts + $2, 0)"
	" WHERE t.stream_id = $1 RETURNING t.attempts",
	2, {INT4OID, INT4OID}
};

static PsPlan skipped_plan = {
	"UPDATE profile_stream_internal.stream_status t SET notifications_skipped = t.notifications_skipped + $2 WHERE t.stream_id = $1",
	2, {INT4OID, INT8OID}
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
stream_catalog_column_value(int column)
{
	bool		isnull;

	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);
}

static Jsonb *
column_jsonb(int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? NULL : DatumGetJsonbPCopy(value);
}

void
ps_stream_tell_workers(void)
{
	Oid			relid = ps_own_table(false, "stream_status");

	if (OidIsValid(relid))
		CacheInvalidateRelcacheByRelid(relid);
}

/* Reads the array of partitions; null stands for all. */
static void
read_partitions(PsStream *stream, int column)
{
	bool		isnull;
	Datum		array = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);
	Datum	   *elements;

	if (isnull)
		return;
	deconstruct_array(DatumGetArrayTypeP(array), INT4OID, sizeof(int32), true, TYPALIGN_INT,
					  &elements, NULL, &stream->npartitions);
	stream->partitions = palloc(Max(stream->npartitions, 1) * sizeof(int32));
	for (int i = 0; i < stream->npartitions; i++)
		stream->partitions[i] = DatumGetInt32(elements[i]);
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
	stream->stream_id = DatumGetInt32(stream_catalog_column_value(1));
	stream->name = column_text(2);
	stream->owner = DatumGetObjectId(stream_catalog_column_value(3));
	stream->server = column_text(4);
	stream->bootstrap_servers = column_text(5);
	stream->topic = column_text(6);
	stream->group_id = column_text(7);
	stream->start_from = column_text(8);
	stream->batch_size = DatumGetInt32(stream_catalog_column_value(9));
	stream->batch_wait_ms = DatumGetInt32(stream_catalog_column_value(10));
	stream->dedupe_retention_us = DatumGetInt64(stream_catalog_column_value(11));
	stream->on_offset_lost = column_text(12);
	stream->notify_channel = column_text(13);
	stream->channel = stream->notify_channel ? stream->notify_channel : ps_secret_name(PS_UPDATES_CHANNEL);
	stream->notify = column_text(14);
	stream->options = column_jsonb(15);
	stream->reorder_wait_us = DatumGetInt64(stream_catalog_column_value(16));
	stream->reorder_buffer_size = DatumGetInt32(stream_catalog_column_value(17));
	stream->late_tolerance_us = DatumGetInt64(stream_catalog_column_value(18));
	stream->workers = DatumGetInt32(stream_catalog_column_value(19));
	read_partitions(stream, 20);
	stream->dead_letter_pause_ratio = DatumGetFloat8(stream_catalog_column_value(21));
	stream->customer_lock_timeout_ms = DatumGetInt32(stream_catalog_column_value(22));
	stream->sinks[PS_SINK_REDIS] = column_text(23);
	stream->redis_prefix = column_text(24);
	stream->redis_ttl_s = DatumGetInt32(stream_catalog_column_value(25));
	stream->sinks[PS_SINK_CHANGELOG] = column_text(26);
	stream->sinks[PS_SINK_DEAD_LETTERS] = column_text(27);
	stream->segment_channel_prefix = column_text(28);
	stream->format = column_text(29);
	stream->field_map = column_jsonb(30);
	stream->timestamp_unit = column_text(31);
	stream->event_id_scope = column_text(32);
	stream->enabled = DatumGetBool(stream_catalog_column_value(33));
	stream->state = column_text(34);
	stream->error = column_text(35);
	stream->cluster = column_text(36);
	return stream;
}

bool
ps_stream_reads(const PsStream *stream, int partition)
{
	for (int i = 0; i < stream->npartitions; i++)
		if (stream->partitions[i] == partition)
			return true;
	return stream->npartitions == 0;
}

static Datum
optional_text(const char *text, char *null)
{
	*null = text == NULL ? 'n' : ' ';
	return text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

/* The arguments that SETTING_VALUES names. */
static void
set_settings(const PsStream *stream, Datum *args, char *nulls)
{
	PsColumn	partitions;

	ps_column_init(&partitions, INT4OID, stream->npartitions);
	for (int i = 0; i < stream->npartitions; i++)
		ps_column_add(&partitions, Int32GetDatum(stream->partitions[i]));
	memset(nulls, ' ', NSETTINGS);
	args[0] = optional_text(stream->server, &nulls[0]);
	args[1] = optional_text(stream->bootstrap_servers, &nulls[1]);
	args[2] = CStringGetTextDatum(stream->group_id);
	args[3] = Int32GetDatum(stream->batch_size);
	args[4] = Int64GetDatum(stream->batch_wait_ms);
	args[5] = Int64GetDatum(stream->dedupe_retention_us);
	args[6] = CStringGetTextDatum(stream->on_offset_lost);
	args[7] = optional_text(stream->notify_channel, &nulls[7]);
	args[8] = CStringGetTextDatum(stream->notify);
	args[9] = JsonbPGetDatum(stream->options);
	args[10] = Int64GetDatum(stream->reorder_wait_us);
	args[11] = Int32GetDatum(stream->reorder_buffer_size);
	args[12] = Int64GetDatum(stream->late_tolerance_us);
	nulls[12] = stream->late_tolerance_us < 0 ? 'n' : ' ';
	args[13] = Int32GetDatum(stream->workers);
	args[14] = ps_column_array(&partitions);
	nulls[14] = stream->npartitions == 0 ? 'n' : ' ';
	args[15] = Float8GetDatum(stream->dead_letter_pause_ratio);
	args[16] = Int64GetDatum(stream->customer_lock_timeout_ms);
	args[17] = optional_text(stream->sinks[PS_SINK_REDIS], &nulls[17]);
	args[18] = CStringGetTextDatum(stream->redis_prefix);
	args[19] = Int32GetDatum(stream->redis_ttl_s);
	args[20] = optional_text(stream->sinks[PS_SINK_CHANGELOG], &nulls[20]);
	args[21] = optional_text(stream->sinks[PS_SINK_DEAD_LETTERS], &nulls[21]);
	args[22] = optional_text(stream->segment_channel_prefix, &nulls[22]);
	args[23] = CStringGetTextDatum(stream->format);
	args[24] = stream->field_map ? JsonbPGetDatum(stream->field_map) : (Datum) 0;
	nulls[24] = stream->field_map ? ' ' : 'n';
	args[25] = CStringGetTextDatum(stream->timestamp_unit);
	args[26] = CStringGetTextDatum(stream->event_id_scope);
}

void
ps_stream_add(PsStream *stream)
{
	Datum		args[NSETTINGS + 5];
	char		nulls[NSETTINGS + 5];

	memset(nulls, ' ', sizeof(nulls));
	set_settings(stream, args, nulls);
	args[NSETTINGS] = CStringGetTextDatum(stream->name);
	args[NSETTINGS + 1] = ObjectIdGetDatum(stream->owner);
	args[NSETTINGS + 2] = CStringGetTextDatum(stream->topic);
	args[NSETTINGS + 3] = CStringGetTextDatum(stream->start_from);
	args[NSETTINGS + 4] = ObjectIdGetDatum(MyDatabaseId);
	(void) ps_definitions_write(&add_plan, args, nulls, SPI_OK_SELECT);
	stream->stream_id = DatumGetInt32(stream_catalog_column_value(1));
	ps_confirm("stream", psprintf("%d", stream->stream_id));
	ps_stream_adopt(stream->stream_id);
}

void
ps_stream_alter(const PsStream *stream)
{
	Datum		args[NSETTINGS + 1];
	char		nulls[NSETTINGS + 1];

	memset(nulls, ' ', sizeof(nulls));
	set_settings(stream, args, nulls);
	args[NSETTINGS] = Int32GetDatum(stream->stream_id);
	(void) ps_definitions_write(&alter_plan, args, nulls, SPI_OK_UPDATE);
	ps_stream_tell_workers();
}

void
ps_stream_give(int stream_id, Oid owner)
{
	Datum		args[2] = {Int32GetDatum(stream_id), ObjectIdGetDatum(owner)};

	(void) ps_definitions_write(&give_plan, args, NULL, SPI_OK_UPDATE);
	ps_stream_tell_workers();
}

void
ps_stream_drop(int stream_id)
{
	Datum		args[1] = {Int32GetDatum(stream_id)};

	(void) ps_plan_run(&drop_plan, args, NULL, SPI_OK_DELETE);
	ps_stream_tell_workers();
}

void
ps_stream_enable(int stream_id, bool enabled)
{
	Datum		args[4] = {Int32GetDatum(stream_id), ObjectIdGetDatum(MyDatabaseId), BoolGetDatum(enabled),
	CStringGetTextDatum(enabled ? "starting" : "paused")};
	PsStateChange change;

	ps_state_log_finish(ps_plan_run(&enable_plan, args, NULL, SPI_OK_SELECT), &change);
	if (enabled)
	{
		ps_confirm("stream", psprintf("%d", stream_id));
		ps_stream_adopt(stream_id);
	}
	ps_stream_tell_workers();
}

void
ps_stream_stop(int stream_id, const char *error, const char *hint)
{
	Datum		args[3] = {Int32GetDatum(stream_id), CStringGetTextDatum(error), CStringGetTextDatum(hint)};
	PsStateChange change;

	ps_state_log_finish(ps_plan_run(&stop_plan, args, NULL, SPI_OK_SELECT), &change);
	ps_stream_tell_workers();
}

int
ps_stream_count_attempts(int stream_id, int change)
{
	Datum		args[2] = {Int32GetDatum(stream_id), Int32GetDatum(change)};

	return ps_plan_run(&attempts_plan, args, NULL, SPI_OK_UPDATE_RETURNING) == 0 ? 0 : DatumGetInt32(stream_catalog_column_value(1));
}

void
ps_stream_count_skipped(int stream_id, int64 skipped)
{
	Datum		args[2] = {Int32GetDatum(stream_id), Int64GetDatum(skipped)};

	(void) ps_plan_run(&skipped_plan, args, NULL, SPI_OK_UPDATE);
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

char *
ps_stream_describe(const char *name)
{
	Datum		args[1] = {CStringGetTextDatum(name)};

	if (ps_plan_run(&describe_plan, args, NULL, SPI_OK_SELECT) == 0)
		return pstrdup("dropped");
	return column_text(1);
}
