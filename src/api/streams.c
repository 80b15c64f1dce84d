/*
 * streams.c
 *	  Creating, pausing, resuming and dropping streams, and waiting for them.
 *
 *	  A worker is registered before its transaction commits, so that a missing
 *	  slot can still be recorded; it waits for the transaction on a lock, and
 *	  exits when the stream is not there or not enabled afterwards. The catalogue
 *	  is written as the owner of the extension's tables, after these checks.
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "connection.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "ingest/launcher.h"
#include "ingest/lease.h"
#include "ingest/probe.h"
#include "ingest/worker.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#define MAX_DAYS INT64CONST(365000)

typedef struct Identity
{
	Oid			user;
	int			context;
} Identity;

/* Becomes the owner of the extension's tables. */
static Identity
become_owner(void)
{
	Identity	identity;
	Oid			relid = get_relname_relid("streams", get_namespace_oid(PS_SCHEMA, false));
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	GetUserIdAndSecContext(&identity.user, &identity.context);
	SetUserIdAndSecContext(((Form_pg_class) GETSTRUCT(tuple))->relowner,
						   identity.context | SECURITY_LOCAL_USERID_CHANGE);
	ReleaseSysCache(tuple);
	return identity;
}

static void
become_caller(Identity identity)
{
	SetUserIdAndSecContext(identity.user, identity.context);
}

/* Finds a stream that the caller may control; needs SPI. */
static PsStream *
find_stream(text *name, bool control)
{
	char	   *cname = text_to_cstring(name);
	Identity	identity = become_owner();
	PsStream   *stream = ps_stream_find(cname, 0);

	become_caller(identity);
	if (stream == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("stream \"%s\" does not exist", cname),
				 errhint("SELECT stream FROM profile_stream.stat_streams shows which there are.")));
	if (control && !superuser() &&
		!has_privs_of_role(GetUserId(), get_role_oid(stream->owner, false)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of stream \"%s\"", cname)));
	return stream;
}

/* Starts the worker once this transaction commits; needs SPI. */
static void
start_at_commit(PsStream *stream)
{
	ps_lease_hold_back(stream->stream_id);
	(void) ps_worker_start(stream, get_role_oid(stream->owner, false));
}

static void
check(bool valid, const char *message)
{
	if (!valid)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s", message)));
}

/* An interval, months of 30 days; what is beyond centuries cannot overflow. */
static int64
interval_us(Interval *interval)
{
	int64		days = interval->day + interval->month * INT64CONST(30) + interval->time / USECS_PER_DAY;

	return Max(Min(days, MAX_DAYS), -MAX_DAYS) * USECS_PER_DAY + interval->time % USECS_PER_DAY;
}

/* Reads and checks create_stream's arguments. */
static PsStream *
read_arguments(FunctionCallInfo fcinfo)
{
	PsStream   *stream = palloc0(sizeof(PsStream));

	for (int i = 0; i < 16; i++)
		check(!PG_ARGISNULL(i) || i == 1 || i == 2 || i == 15, "only server, brokers and late_tolerance may be null");
	stream->name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	stream->owner = GetUserNameFromId(GetUserId(), false);
	stream->server = PG_ARGISNULL(1) ? NULL : NameStr(*PG_GETARG_NAME(1));
	stream->brokers = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (stream->server == NULL && stream->brokers == NULL)
		stream->brokers = "localhost:9092";
	stream->topic = text_to_cstring(PG_GETARG_TEXT_PP(3));
	stream->group_id = text_to_cstring(PG_GETARG_TEXT_PP(4));
	stream->start_from = text_to_cstring(PG_GETARG_TEXT_PP(5));
	stream->batch_size = PG_GETARG_INT32(6);
	stream->batch_wait_ms = (int) (interval_us(PG_GETARG_INTERVAL_P(7)) / 1000);
	stream->dedupe_retention_us = interval_us(PG_GETARG_INTERVAL_P(8));
	stream->on_offset_lost = text_to_cstring(PG_GETARG_TEXT_PP(9));
	stream->notify_channel = text_to_cstring(PG_GETARG_TEXT_PP(10));
	stream->notify = text_to_cstring(PG_GETARG_TEXT_PP(11));
	stream->options = PG_GETARG_JSONB_P(12);
	stream->reorder_wait_us = interval_us(PG_GETARG_INTERVAL_P(13));
	stream->reorder_buffer_size = PG_GETARG_INT32(14);
	stream->late_tolerance_us = PG_ARGISNULL(15) ? -1 : interval_us(PG_GETARG_INTERVAL_P(15));

	check(stream->server == NULL || stream->brokers == NULL, "server and brokers exclude each other");
	check(stream->name[0] != '\0' && strlen(stream->name) < NAMEDATALEN, "name must have 1 to 63 bytes");
	check(stream->topic[0] != '\0' && strlen(stream->topic) < 250, "topic must have 1 to 249 bytes");
	check(stream->group_id[0] != '\0', "group_id must not be empty");
	check(stream->batch_size >= 1 && stream->batch_size <= 100000, "batch_size must be 1 to 100000");
	check(stream->batch_wait_ms >= 0 && stream->batch_wait_ms <= 60000, "batch_wait must be 0 to 60 seconds");
	check(stream->dedupe_retention_us >= 0, "dedupe_retention must not be negative");
	check(stream->reorder_wait_us >= 0 && stream->reorder_wait_us <= USECS_PER_DAY, "reorder_wait must be 0 to 1 day");
	check(stream->reorder_buffer_size >= 2, "reorder_buffer_size must be at least 2");
	check(PG_ARGISNULL(15) || stream->late_tolerance_us >= 0, "late_tolerance must not be negative");
	check(strcmp(stream->on_offset_lost, "stop") == 0 || strcmp(stream->on_offset_lost, "earliest") == 0 ||
		  strcmp(stream->on_offset_lost, "latest") == 0, "on_offset_lost must be stop, earliest or latest");
	check(strcmp(stream->notify, "customer") == 0 || strcmp(stream->notify, "batch") == 0 ||
		  strcmp(stream->notify, "off") == 0, "notify must be customer, batch or off");
	check(stream->notify_channel[0] != '\0' && strlen(stream->notify_channel) < NAMEDATALEN,
		  "notify_channel must have 1 to 63 bytes");
	if (strcmp(stream->start_from, "earliest") != 0 && strcmp(stream->start_from, "latest") != 0)
	{
		/* as absolute time, whatever the worker's time zone */
		Datum		at = DirectFunctionCall3(timestamptz_in, CStringGetDatum(stream->start_from),
											 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));

		check(!TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(at)), "start_from must be finite");
		stream->start_from = pstrdup(timestamptz_to_str(DatumGetTimestampTz(at)));
	}
	return stream;
}

PG_FUNCTION_INFO_V1(ps_create_stream);
Datum
ps_create_stream(PG_FUNCTION_ARGS)
{
	PsStream   *stream = read_arguments(fcinfo);
	Identity	identity;

	PreventCommandIfReadOnly("create_stream()");
	(void) ps_connection_options(stream->server, stream->brokers, stream->options, GetUserId());
	SPI_connect();
	identity = become_owner();
	if (ps_stream_find(stream->name, 0) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("stream \"%s\" already exists", stream->name)));
	ps_stream_add(stream);
	start_at_commit(stream);
	become_caller(identity);
	SPI_finish();
	if (!process_shared_preload_libraries_done || strstr(GetConfigOption("shared_preload_libraries", true, false), "profile_stream") == NULL)
		ereport(NOTICE,
				(errmsg("stream \"%s\" will not come back by itself after a server restart", stream->name),
				 errhint("Add profile_stream to shared_preload_libraries, or call profile_stream.start_streams() after a restart.")));
	PG_RETURN_VOID();
}

/* Enables or disables, and starts what was enabled. */
static void
enable_stream(text *name, bool enabled)
{
	PsStream   *stream;
	Identity	identity;

	SPI_connect();
	stream = find_stream(name, true);
	identity = become_owner();
	if (stream->enabled != enabled || enabled)
		ps_stream_enable(stream->stream_id, enabled);
	if (enabled && !(stream->enabled && ps_lease_has_worker(stream->stream_id)))
		start_at_commit(stream);
	become_caller(identity);
	SPI_finish();
}

PG_FUNCTION_INFO_V1(ps_pause_stream);
Datum
ps_pause_stream(PG_FUNCTION_ARGS)
{
	enable_stream(PG_GETARG_TEXT_PP(0), false);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_resume_stream);
Datum
ps_resume_stream(PG_FUNCTION_ARGS)
{
	enable_stream(PG_GETARG_TEXT_PP(0), true);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_drop_stream);
Datum
ps_drop_stream(PG_FUNCTION_ARGS)
{
	PsStream   *stream;
	Identity	identity;

	SPI_connect();
	stream = find_stream(PG_GETARG_TEXT_PP(0), true);
	identity = become_owner();
	ps_stream_drop(stream->stream_id);
	become_caller(identity);
	SPI_finish();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_start_streams);
Datum
ps_start_streams(PG_FUNCTION_ARGS)
{
	int			started;
	Identity	identity;

	PreventCommandIfReadOnly("start_streams()");
	SPI_connect();
	identity = become_owner();
	started = ps_launcher_start_streams();
	become_caller(identity);
	SPI_finish();
	PG_RETURN_INT32(started);
}

/* Polls stream_offsets until every partition has reached its end offset. */
static void
wait_for_ends(PsStream *stream, const int64 *ends, int n, TimestampTz deadline)
{
	for (long pause = 5;; pause = Min(100, pause * 2))
	{
		bool		reached;
		char	   *state;

		CHECK_FOR_INTERRUPTS();
		SPI_connect();
		PushActiveSnapshot(GetLatestSnapshot());
		reached = ps_stream_reached(stream->stream_id, ends, n);
		PopActiveSnapshot();
		if (!reached && GetCurrentTimestamp() >= deadline)
		{
			state = ps_stream_describe(stream->name);
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("stream \"%s\" did not get there in time", stream->name),
					 errdetail("Its state is %s.", state),
					 errhint("See profile_stream.stat_streams; pass a longer timeout when it only lags.")));
		}
		SPI_finish();
		if (reached)
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pause, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

static TimestampTz
deadline_after(Interval *timeout)
{
	return GetCurrentTimestamp() + interval_us(timeout);
}

PG_FUNCTION_INFO_V1(ps_wait_for_offset);
Datum
ps_wait_for_offset(PG_FUNCTION_ARGS)
{
	int			partition = PG_GETARG_INT32(1);
	TimestampTz deadline = deadline_after(PG_GETARG_INTERVAL_P(3));
	MemoryContext caller = CurrentMemoryContext;
	PsStream   *stream;
	int64	   *ends;

	check(partition >= 0 && partition < PS_PROBE_PARTITIONS, "partition must not be negative");
	ends = palloc((partition + 1) * sizeof(int64));
	for (int i = 0; i < partition; i++)
		ends[i] = PG_INT64_MIN;
	ends[partition] = PG_GETARG_INT64(2) + 1;
	SPI_connect();
	MemoryContextSwitchTo(caller);
	stream = find_stream(PG_GETARG_TEXT_PP(0), false);
	SPI_finish();
	wait_for_ends(stream, ends, partition + 1, deadline);
	PG_RETURN_VOID();
}

/* Raises what the broker said. */
static void
check_answer(PsProbeAnswer *answer, const char *topic)
{
	if (answer->topic_missing)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("topic \"%s\" does not exist", topic),
				 errhint("Create the topic, or name another one.")));
	if (answer->error[0] != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
				 errmsg("%s", answer->error),
				 errhint(PS_REACH_HINT)));
}

PG_FUNCTION_INFO_V1(ps_wait_for_stream);
Datum
ps_wait_for_stream(PG_FUNCTION_ARGS)
{
	TimestampTz deadline = deadline_after(PG_GETARG_INTERVAL_P(1));
	MemoryContext caller = CurrentMemoryContext;
	PsStream   *stream;
	PsProbeAnswer *answer;
	int64	   *ends;

	SPI_connect();
	MemoryContextSwitchTo(caller);
	stream = find_stream(PG_GETARG_TEXT_PP(0), true);
	SPI_finish();
	answer = ps_probe(ps_connection_options(stream->server, stream->brokers, stream->options,
											get_role_oid(stream->owner, false)),
					  stream->topic, (int) Min(INT_MAX, interval_us(PG_GETARG_INTERVAL_P(1)) / 1000));
	check_answer(answer, stream->topic);
	ends = palloc(Max(answer->npartitions, 1) * sizeof(int64));
	for (int i = 0; i < answer->npartitions; i++)
		ends[i] = answer->partitions[i].high;
	wait_for_ends(stream, ends, answer->npartitions, deadline);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_test_connection);
Datum
ps_test_connection(PG_FUNCTION_ARGS)
{
	char	   *topic = text_to_cstring(PG_GETARG_TEXT_PP(1));
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Jsonb	   *no_options = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	PsProbeAnswer *answer;

	InitMaterializedSRF(fcinfo, 0);
	answer = ps_probe(ps_connection_options(NameStr(*PG_GETARG_NAME(0)), NULL, no_options, GetUserId()),
					  topic, 10000);
	check_answer(answer, topic);
	for (int i = 0; i < answer->npartitions; i++)
	{
		Datum		values[3] = {Int32GetDatum(i), Int64GetDatum(answer->partitions[i].low),
		Int64GetDatum(answer->partitions[i].high)};
		bool		nulls[3] = {false, false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
