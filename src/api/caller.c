/*
 * caller.c
 *	  Helpers of the SQL functions. They check the caller's rights; the store then writes
 *	  with the rights of the tables' owner, so that no user needs rights on the tables.
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/caller.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "ingest/launcher.h"
#include "ingest/worker.h"
#include "kafka/client.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "process/lease.h"
#include "store/lock_wait.h"
#include "store/metric_catalog.h"
#include "store/topic_catalog.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#define MAX_DAYS INT64CONST(365000)

PsStream *
ps_find_stream(text *name, bool control)
{
	char	   *cname = text_to_cstring(name);
	PsStream   *stream;

	stream = ps_stream_find(cname, 0);
	if (stream == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("stream \"%s\" does not exist", cname),
				 errhint("SELECT stream FROM profile_stream.stat_streams shows which there are.")));
	if (control && !superuser() &&
		!has_privs_of_role(GetUserId(), stream->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of stream \"%s\"", cname),
				 errhint("SELECT owner FROM profile_stream.stat_streams shows who is.")));
	return stream;
}

void
ps_start_at_commit(PsStream *stream, bool all)
{
	ps_lease_hold_back(stream->stream_id);
	(void) ps_workers_start(stream, ps_stream_owner(stream), all);
}

void
ps_check_set_role(Oid role)
{
	ps_must_be_able_to_set_role(GetUserId(), role);
}

Oid
ps_find_decoder(const char *name)
{
	Oid			function = ps_function_find(strchr(name, '(') != NULL ? name : psprintf("%s(bytea,bytea,jsonb)", name));

	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("decoder %s does not exist", name),
				 errhint("Name a function(value bytea, key bytea, headers jsonb) with its schema: public.decode(bytea,bytea,jsonb).")));
	return function;
}

Oid
ps_check_function(PsFunctionKind kind, Oid function)
{
	Oid			owner = ps_function_check(kind, function);

	if (!has_privs_of_role(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of function %s", ps_function_name(function)),
				 errhint("It will run with the rights of its owner, who must register it.")));
	return owner;
}

void
ps_check_word(const char *what, const char *word, const char *const *words, int max)
{
	StringInfoData must;

	initStringInfo(&must);
	for (int i = 0; i < max && words[i] != NULL; i++)
	{
		bool		last = i + 1 == max || words[i + 1] == NULL;

		if (strcmp(words[i], word) == 0)
			return;
		appendStringInfo(&must, "%s %s", i == 0 ? "" : last ? " or" : ",", words[i]);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s must be%s", what, must.data)));
}

TimestampTz
ps_read_time(const char *time, const char *must)
{
	MemoryContext context = CurrentMemoryContext;
	volatile TimestampTz at = 0;

	PG_TRY();
	{
		at = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(time), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s, not \"%s\"", must, time),
				 errdetail_internal("%s.", error->message),
				 errhint("Write a time as 2026-01-31 12:00:00+00.")));
	}
	PG_END_TRY();
	return at;
}

void
ps_check_argument(bool valid, const char *message)
{
	if (!valid)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s", message)));
}

void
ps_check_no_column(const char *name)
{
	if (ps_profiles_have_column(name))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_COLUMN),
				 errmsg("profiles already have a column \"%s\"", name),
				 errhint("Choose another name: create_profile_view() makes columns of metrics and attributes.")));
}

void
ps_check_read_committed(const char *what)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s must run in a READ COMMITTED transaction", what),
				 errhint("Begin the transaction with BEGIN ISOLATION LEVEL READ COMMITTED.")));
}

void
ps_check_not_atomic(FunctionCallInfo fcinfo, const char *what, const char *hint)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) || castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("%s commits, and cannot run in a transaction block or function", what),
				 errhint("%s", hint)));
}

char *
ps_get_string(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

char *
ps_get_name(FunctionCallInfo fcinfo, int n, const char *what, int max)
{
	char	   *name = ps_get_string(fcinfo, n);

	if (name == NULL || name[0] == '\0' || strlen(name) > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must have 1 to %d bytes", what, max)));
	return name;
}

PsTextSet
ps_get_texts(FunctionCallInfo fcinfo, int n, const char *what)
{
	Datum	   *elements;
	bool	   *nulls;
	const char **texts;
	int			found;

	if (PG_ARGISNULL(n))
		return (PsTextSet)
	{
		0
	};
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &found);
	if (found < 1 || found > PS_MAX_FILTER_VALUES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must have 1 to %d elements", what, PS_MAX_FILTER_VALUES)));
	texts = palloc(found * sizeof(char *));
	for (int i = 0; i < found; i++)
	{
		texts[i] = nulls[i] ? "" : TextDatumGetCString(elements[i]);
		if (texts[i][0] == '\0' || strlen(texts[i]) > PS_MAX_ID_BYTES)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("each element of %s must have 1 to %d bytes", what, PS_MAX_ID_BYTES)));
	}
	return ps_text_set_make(texts, found);
}

PsTextSet
ps_get_event_types(FunctionCallInfo fcinfo, int one, int several)
{
	const char **texts;

	ps_check_argument(PG_ARGISNULL(one) || PG_ARGISNULL(several), "give event_type or event_types, and not both");
	if (!PG_ARGISNULL(several))
		return ps_get_texts(fcinfo, several, "event_types");
	texts = palloc(sizeof(char *));
	texts[0] = ps_get_name(fcinfo, one, "event_type", PS_MAX_ID_BYTES);
	return ps_text_set_make(texts, 1);
}

int64
ps_interval_us(Interval *interval)
{
	int64		days = interval->day + interval->month * INT64CONST(30) + interval->time / USECS_PER_DAY;

	return Max(Min(days, MAX_DAYS), -MAX_DAYS) * USECS_PER_DAY + interval->time % USECS_PER_DAY;
}

PsMoment
ps_get_deadline(FunctionCallInfo fcinfo, int n)
{
	int64		timeout = ps_interval_us(PG_GETARG_INTERVAL_P(n));

	ps_check_argument(timeout >= 0, "timeout must not be negative");
	return ps_clock_now() + timeout;
}

Datum
ps_reject_errors(const PsReject *reject)
{
	Datum	   *errors = palloc(Max(reject->nerrors, 1) * sizeof(Datum));

	for (int i = 0; i < reject->nerrors; i++)
		errors[i] = CStringGetTextDatum(reject->errors[i]);
	return PointerGetDatum(construct_array(errors, reject->nerrors, TEXTOID, -1, false, TYPALIGN_INT));
}

static void
refuse_answer(const char *error)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
			 errmsg("%s", error),
			 errhint("%s", ps_kafka_connect_hint(error))));
}

void
ps_check_answer(const PsProbeAnswer *answer)
{
	if (answer->topic_missing)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 answer->ntopics == 1 ? errmsg("topic \"%s\" does not exist", answer->topics[0].name) :
				 errmsg("none of the %d topics exists", answer->ntopics),
				 errhint("Create the topic, or name another one.")));
	if (answer->error[0] != '\0')
		refuse_answer(answer->error);
	for (int t = 0; t < answer->ntopics; t++)
		if (!answer->topics[t].missing && answer->topics[t].error[0] != '\0')
			refuse_answer(psprintf("topic \"%s\": %s", answer->topics[t].name, answer->topics[t].error));
}

List *
ps_get_topics(FunctionCallInfo fcinfo, int n, const PsStream *stream)
{
	List	   *known = ps_topics_known(stream);
	char	   *name = n < PG_NARGS() ? ps_get_string(fcinfo, n) : NULL;
	PsTopic    *unknown;
	ListCell   *cell;

	if (known == NIL && name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("stream \"%s\" has not found a topic yet", stream->name),
				 errhint("Call it again when stat_topics shows one.")));
	if (name == NULL)
		return known;
	foreach(cell, known)
		if (strcmp(((PsTopic *) lfirst(cell))->name, name) == 0)
		return list_make1(lfirst(cell));
	if (!ps_stream_takes_topic(stream, name))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("stream \"%s\" does not read topic \"%s\"", stream->name, name),
				 errhint("stat_topics shows which topics it reads.")));
	unknown = palloc0(sizeof(PsTopic));
	unknown->topic_no = -1;
	unknown->name = name;
	return list_make1(unknown);
}

Datum
ps_call_bounded(FunctionCallInfo fcinfo, PGFunction function, const char *name, int64 ms)
{
	MemoryContext context = CurrentMemoryContext;
	int			nest_level = ps_lock_wait_bound((int) Max(1, Min(ms, INT_MAX)));
	volatile Datum result = (Datum) 0;

	PG_TRY();
	{
		result = function(fcinfo);
	}
	PG_CATCH();
	{
		ps_lock_wait_rethrow(name, context);
	}
	PG_END_TRY();
	ps_lock_wait_free(nest_level);
	return result;
}
