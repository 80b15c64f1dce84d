/*
 * stream_catalog.c
 *	  The SQL of streams and stream_status, but what workers say there. Called by the worker and by the
 *	  functions that control streams.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "settings.h"
#include "store/confirmed_code.h"
#include "store/owner.h"
#include "store/plan.h"
#include "store/secret.h"
#include "store/shards.h"
#include "store/stream_catalog.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define SINK_ROW(symbol, name, option, content, check, create, built) [symbol] = {name, option, content},

const PsSinkRow ps_sinks[PS_SINK_KINDS] = {PS_SINKS(SINK_ROW)};

const PsStreamOption ps_stream_options[] = {PS_STREAM_OPTIONS};
const int	ps_nstream_options = lengthof(ps_stream_options);

StaticAssertDecl(lengthof(ps_stream_options) + 2 <= PS_PLAN_MAX_ARGS, "every option must have a parameter in the statements");

/* the statements that name every option: build_statements() makes them of the list */
static PsPlan find_plan = {NULL, 3, {TEXTOID, INT4OID, OIDOID}};
static PsPlan add_plan;			/* the options, then owner and database */
static PsPlan alter_plan;		/* the options that are not fixed, then stream_id */

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
	" l AS (" PS_STATE_LOG_ADD("true", "$1", "'stream'", "NULL", "$4", "$5", "NULL") ") "
	PS_STATE_LOG_RESULT,
	5, {INT4OID, OIDOID, BOOLOID, TEXTOID, TEXTOID}
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

/* The type of an option's parameter. */
static Oid
parameter_type(const PsStreamOption *option)
{
	switch (option->kind)
	{
		case PS_INT_OPTION:
			return INT4OID;
		case PS_RATIO_OPTION:
			return FLOAT8OID;
		case PS_INTERVAL_OPTION:
			return INT8OID;
		case PS_JSONB_OPTION:
			return JSONBOID;
		case PS_TEXTS_OPTION:
			return TEXTARRAYOID;
		case PS_PARTITIONS_OPTION:
			return INT4ARRAYOID;
		case PS_TEXT_OPTION:
		case PS_NAME_OPTION:
			break;
	}
	return TEXTOID;
}

/* Adds the expression that reads an option's column; its name is the option's. */
static void
append_column(StringInfo sql, const PsStreamOption *option)
{
	if (option->kind == PS_INTERVAL_OPTION)
		appendStringInfo(sql, ", (EXTRACT(epoch FROM s.%s) * " INT64_FORMAT ")::int8 AS %s",
						 option->name, USECS_PER_SEC / option->unit, option->name);
	else if (option->kind == PS_NAME_OPTION)
		appendStringInfo(sql, ", s.%s::text AS %s", option->name, option->name);
	else
		appendStringInfo(sql, ", s.%s", option->name);
}

/* Adds an option's parameter to a statement, as the column takes it. */
static void
append_parameter(StringInfo sql, PsPlan *plan, const PsStreamOption *option)
{
	plan->argtypes[plan->nargs++] = parameter_type(option);
	if (option->kind == PS_INTERVAL_OPTION)
		appendStringInfo(sql, "$%d * '" INT64_FORMAT " us'::interval, ", plan->nargs, option->unit);
	else if (option->kind == PS_NAME_OPTION)
		appendStringInfo(sql, "$%d::name, ", plan->nargs);
	else
		appendStringInfo(sql, "$%d, ", plan->nargs);
}

/* Makes the statements of all options, once a session. They hold names and numbers of parameters, and no value. */
static void
build_statements(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	StringInfoData read;
	StringInfoData columns;
	StringInfoData values;
	StringInfoData changes;

	initStringInfo(&read);
	initStringInfo(&columns);
	initStringInfo(&values);
	initStringInfo(&changes);
	add_plan.nargs = alter_plan.nargs = 0;
	for (int i = 0; i < ps_nstream_options; i++)
	{
		const PsStreamOption *option = &ps_stream_options[i];

		append_column(&read, option);
		appendStringInfo(&columns, "%s, ", option->name);
		append_parameter(&values, &add_plan, option);
		if (option->fixed)
			continue;
		appendStringInfo(&changes, "%s = ", option->name);
		append_parameter(&changes, &alter_plan, option);
	}
	changes.data[changes.len - strlen(", ")] = '\0';
	add_plan.argtypes[add_plan.nargs++] = REGROLEOID;
	add_plan.argtypes[add_plan.nargs++] = OIDOID;
	add_plan.sql = psprintf("WITH s AS (INSERT INTO profile_stream.streams (%sowner, created_at)"
							" VALUES (%s$%d, pg_catalog.now()) RETURNING stream_id), t AS ("
							" INSERT INTO profile_stream_internal.stream_status (stream_id, database, enabled, state, changed_at)"
							" SELECT s.stream_id, $%d, true, 'starting', pg_catalog.now() FROM s)"
							" SELECT s.stream_id FROM s", columns.data, values.data, add_plan.nargs - 1, add_plan.nargs);
	alter_plan.argtypes[alter_plan.nargs++] = INT4OID;
	alter_plan.sql = psprintf("UPDATE profile_stream.streams s SET %s WHERE s.stream_id = $%d", changes.data, alter_plan.nargs);
	find_plan.sql = psprintf("SELECT s.stream_id, s.owner%s, COALESCE(t.enabled AND t.database = $3, false)"
							 " AND " PS_IS_CONFIRMED("stream", "s.stream_id::text") " AS enabled, t.state, t.error, t.cluster"
							 " FROM profile_stream.streams s LEFT JOIN profile_stream_internal.stream_status t ON t.stream_id = s.stream_id"
							 " WHERE s.name = $1 OR s.stream_id = $2", read.data);
	MemoryContextSwitchTo(old);
}

/* A column of the first row, by its name. */
static Datum
stream_catalog_column_value(const char *column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, SPI_fnumber(SPI_tuptable->tupdesc, column), isnull);
}

static char *
column_text(const char *column)
{
	bool		isnull;
	Datum		value = stream_catalog_column_value(column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/* The first column of the first row, which is a number. */
static int
stream_catalog_number(void)
{
	bool		isnull;

	return DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

void
ps_stream_tell_workers(void)
{
	Oid			relid = ps_own_table(false, "stream_status");

	if (OidIsValid(relid))
		CacheInvalidateRelcacheByRelid(relid);
}

/* Takes the array of partitions; null stands for all. */
static void
read_partitions(PsStream *stream, Datum array, bool isnull)
{
	Datum	   *elements;

	if (isnull)
		return;
	deconstruct_array(DatumGetArrayTypeP(array), INT4OID, sizeof(int32), true, TYPALIGN_INT,
					  &elements, NULL, &stream->npartitions);
	stream->partitions = palloc(Max(stream->npartitions, 1) * sizeof(int32));
	for (int i = 0; i < stream->npartitions; i++)
		stream->partitions[i] = DatumGetInt32(elements[i]);
}

/* Takes an option out of the row that was found. */
static void
read_option(PsStream *stream, const PsStreamOption *option)
{
	void	   *field = (char *) stream + option->offset;
	bool		isnull;
	Datum		value = stream_catalog_column_value(option->name, &isnull);

	switch (option->kind)
	{
		case PS_TEXT_OPTION:
		case PS_NAME_OPTION:
			*(char **) field = isnull ? NULL : TextDatumGetCString(value);
			break;
		case PS_INT_OPTION:
			*(int *) field = DatumGetInt32(value);
			break;
		case PS_RATIO_OPTION:
			*(double *) field = DatumGetFloat8(value);
			break;
		case PS_INTERVAL_OPTION:
			*(int64 *) field = isnull ? -1 : DatumGetInt64(value);
			break;
		case PS_JSONB_OPTION:
			*(Jsonb **) field = isnull ? NULL : DatumGetJsonbPCopy(value);
			break;
		case PS_TEXTS_OPTION:
			*(PsTextSet *) field = ps_plan_texts(0, SPI_fnumber(SPI_tuptable->tupdesc, option->name));
			break;
		case PS_PARTITIONS_OPTION:
			read_partitions(stream, value, isnull);
			break;
	}
}

PsStream *
ps_stream_find(const char *name, int stream_id)
{
	Datum		args[3];
	char		nulls[3] = {name == NULL ? 'n' : ' ', name == NULL ? ' ' : 'n', ' '};
	PsStream   *stream;
	bool		isnull;

	args[0] = name == NULL ? (Datum) 0 : CStringGetTextDatum(name);
	args[1] = Int32GetDatum(stream_id);
	args[2] = ObjectIdGetDatum(MyDatabaseId);
	if (find_plan.sql == NULL)
		build_statements();
	if (ps_plan_run(&find_plan, args, nulls, SPI_OK_SELECT) == 0)
		return NULL;
	stream = palloc0(sizeof(PsStream));
	stream->stream_id = DatumGetInt32(stream_catalog_column_value("stream_id", &isnull));
	stream->owner = DatumGetObjectId(stream_catalog_column_value("owner", &isnull));
	for (int i = 0; i < ps_nstream_options; i++)
		read_option(stream, &ps_stream_options[i]);
	stream->channel = stream->notify_channel ? stream->notify_channel : ps_secret_name(PS_UPDATES_CHANNEL);
	stream->enabled = DatumGetBool(stream_catalog_column_value("enabled", &isnull));
	stream->state = ps_state_parse(column_text("state"));
	stream->error = column_text("error");
	stream->cluster = column_text("cluster");
	return stream;
}

bool
ps_stream_goes_by_partition(const PsStream *stream)
{
	return strcmp(stream->partitioner, "citus") == 0 && ps_distributed_lately();
}

bool
ps_stream_reads(const PsStream *stream, int partition)
{
	if (ps_stream_goes_by_partition(stream) && (partition < 0 || partition >= ps_shards_count() || !ps_shards_is_here(partition)))
		return false;
	for (int i = 0; i < stream->npartitions; i++)
		if (stream->partitions[i] == partition)
			return true;
	return stream->npartitions == 0;
}

/* The array of partitions; null stands for all. */
static Datum
partitions_array(const PsStream *stream)
{
	PsColumn	partitions;

	ps_column_init(&partitions, INT4OID, stream->npartitions);
	for (int i = 0; i < stream->npartitions; i++)
		ps_column_add(&partitions, Int32GetDatum(stream->partitions[i]));
	return ps_column_array(&partitions);
}

/* The value of an option's parameter. */
static Datum
option_value(const PsStream *stream, const PsStreamOption *option, char *null)
{
	const void *field = (const char *) stream + option->offset;
	const char *text;
	int64		number;
	Jsonb	   *jsonb;

	*null = ' ';
	switch (option->kind)
	{
		case PS_INT_OPTION:
			return Int32GetDatum(*(const int *) field);
		case PS_RATIO_OPTION:
			return Float8GetDatum(*(const double *) field);
		case PS_INTERVAL_OPTION:
			number = *(const int64 *) field;
			*null = number < 0 ? 'n' : ' ';
			return Int64GetDatum(number);
		case PS_JSONB_OPTION:
			jsonb = *(Jsonb *const *) field;
			*null = jsonb == NULL ? 'n' : ' ';
			return JsonbPGetDatum(jsonb);
		case PS_TEXTS_OPTION:
			*null = ((const PsTextSet *) field)->n == 0 ? 'n' : ' ';
			return ps_text_set_array(field);
		case PS_PARTITIONS_OPTION:
			*null = stream->npartitions == 0 ? 'n' : ' ';
			return partitions_array(stream);
		case PS_TEXT_OPTION:
		case PS_NAME_OPTION:
			break;
	}
	text = *(char *const *) field;
	*null = text == NULL ? 'n' : ' ';
	return text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

/* Fills in the parameters of the options, without those that are fixed or with them; returns how many. */
static int
set_options(const PsStream *stream, bool fixed, Datum *args, char *nulls)
{
	int			n = 0;

	if (find_plan.sql == NULL)
		build_statements();
	memset(nulls, ' ', PS_PLAN_MAX_ARGS);
	for (int i = 0; i < ps_nstream_options; i++)
	{
		if (ps_stream_options[i].fixed && !fixed)
			continue;
		args[n] = option_value(stream, &ps_stream_options[i], &nulls[n]);
		n++;
	}
	return n;
}

void
ps_stream_add(PsStream *stream)
{
	Datum		args[PS_PLAN_MAX_ARGS];
	char		nulls[PS_PLAN_MAX_ARGS];
	int			n = set_options(stream, true, args, nulls);

	args[n++] = ObjectIdGetDatum(stream->owner);
	args[n++] = ObjectIdGetDatum(MyDatabaseId);
	if (ps_definitions_write(&add_plan, args, nulls, SPI_OK_SELECT) == 0)
		ps_plan_complain("streams", 1, 1);
	stream->stream_id = stream_catalog_number();
	ps_confirm("stream", psprintf("%d", stream->stream_id));
	ps_stream_adopt(stream->stream_id);
}

void
ps_stream_alter(const PsStream *stream)
{
	Datum		args[PS_PLAN_MAX_ARGS];
	char		nulls[PS_PLAN_MAX_ARGS];
	int			n = set_options(stream, false, args, nulls);

	args[n] = Int32GetDatum(stream->stream_id);
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
ps_stream_enable(const PsStream *stream, bool enabled)
{
	int			stream_id = stream->stream_id;
	Datum		args[5] = {Int32GetDatum(stream_id), ObjectIdGetDatum(MyDatabaseId), BoolGetDatum(enabled),
		CStringGetTextDatum(ps_state_names[enabled ? PS_STATE_STARTING : PS_STATE_PAUSED]),
	CStringGetTextDatum(ps_state_log_role(stream->name, "stream", enabled ? "resumed" : "paused", NULL))};
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

	return ps_plan_run(&attempts_plan, args, NULL, SPI_OK_UPDATE_RETURNING) == 0 ? 0 : stream_catalog_number();
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
	return ps_plan_text(0, 1);
}
