/*
 * stream_state.c
 *	  The SQL with which a worker stores its state in stream_status, for stat_streams.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "settings.h"
#include "store/distributed.h"
#include "store/plan.h"
#include "store/rebuild_schema.h"
#include "store/stream_catalog.h"
#include "utils/builtins.h"

#define PS_FOREIGN_HINT \
	"Where this is a copy, leave it so. Where it is the cluster itself, under another name, resume_stream() makes the stream its own."

/* since is the time of the last change of state; with $6 an unchanged state is logged too, because its reason is new */
static PsPlan state_plan = {
	"WITH o AS (SELECT t.state AS from_state, t.since FROM profile_stream_internal.stream_status t WHERE t.stream_id = $1 FOR UPDATE),"
	" n AS (UPDATE profile_stream_internal.stream_status t SET state = $2, error = $3, hint = $4,"
	" error_at = CASE WHEN $3 IS NULL THEN NULL ELSE pg_catalog.clock_timestamp() END,"
	" next_attempt_at = pg_catalog.clock_timestamp() + $5 * '1 ms'::interval, changed_at = pg_catalog.clock_timestamp(),"
	" since = CASE WHEN t.state = $2 THEN t.since ELSE pg_catalog.clock_timestamp() END WHERE t.stream_id = $1),"
	" l AS (" PS_STATE_LOG_ADD("$6 OR o.from_state <> $2", "$1", "$7", "NULL", "$2", "$3", "$4") ") "
	PS_STATE_LOG_RESULT,
	7, {INT4OID, TEXTOID, TEXTOID, TEXTOID, INT8OID, BOOLOID, TEXTOID},.only = "stream_status"
};

/*
 * A restore fills a table completely or not at all. Events applied within the
 * retention must have left event ids, whose key is older than they are.
 */
static PsPlan missing_plan = {
	"SELECT CASE WHEN NOT EXISTS (SELECT FROM profile_stream.materialized_profiles) THEN 'materialized_profiles'"
	" WHEN o.committed_at < pg_catalog.now() - s.dedupe_retention THEN NULL"
	" WHEN (SELECT pg_catalog.min(k.made_at) FROM profile_stream_internal.event_id_keys k) > o.committed_at THEN 'event_id_keys'"
	" WHEN NOT EXISTS (SELECT FROM profile_stream_internal.event_id_chunks) AND EXISTS (SELECT FROM profile_stream.materialized_profiles p"
	" WHERE profile_stream_internal.event_ids_sealed_to(p.event_ids) > pg_catalog.now() - s.dedupe_retention) THEN 'event_id_chunks' END, o.applied"
	" FROM (SELECT pg_catalog.sum(p.applied)::int8 AS applied, pg_catalog.max(p.committed_at) AS committed_at"
	" FROM profile_stream_internal.stream_offsets p WHERE p.stream_id = $1) o CROSS JOIN profile_stream.streams s"
	" WHERE s.stream_id = $1 AND o.applied > 0"
	" AND NOT EXISTS (SELECT FROM profile_stream_internal.stream_status t WHERE t.stream_id = $1 AND t.database = $2)",
	2, {INT4OID, OIDOID}
};

/* names nothing that a version of the extension does not have, from 0.1.0 on */
static PsPlan cannot_start_plan = {
	"WITH o AS (SELECT t.stream_id, t.state AS from_state, t.since, t.error, (t.state, t.error) IS DISTINCT FROM ('retrying', $1) AS is_new"
	" FROM profile_stream_internal.stream_status t WHERE t.enabled AND t.database = $3 FOR UPDATE),"
	" n AS (UPDATE profile_stream_internal.stream_status t SET state = 'retrying', error = $1, hint = $2, changed_at = pg_catalog.clock_timestamp(),"
	" error_at = CASE WHEN o.is_new THEN pg_catalog.clock_timestamp() ELSE t.error_at END,"
	" since = CASE WHEN t.state = 'retrying' THEN t.since ELSE pg_catalog.clock_timestamp() END,"
	" next_attempt_at = pg_catalog.clock_timestamp() + $4 * '1 ms'::interval FROM o WHERE o.stream_id = t.stream_id),"
	" l AS (" PS_STATE_LOG_ADD("o.is_new", "o.stream_id", "'stream'", "NULL", "'retrying'", "$1", "$2") ") "
	"SELECT FROM o WHERE o.is_new",
	4, {TEXTOID, TEXTOID, OIDOID, INT8OID}
};

static PsPlan adopt_plan = {
	"UPDATE profile_stream_internal.stream_status t SET cluster = $2 WHERE t.stream_id = $1", 2, {INT4OID, TEXTOID}
};

/* a clock that goes back must not make the log silent */
static PsPlan log_minute_plan = {
	"UPDATE profile_stream_internal.stream_status t SET order_logged_at = pg_catalog.clock_timestamp() WHERE t.stream_id = $1"
	" AND (t.order_logged_at BETWEEN pg_catalog.clock_timestamp() - '1 minute'::interval AND pg_catalog.clock_timestamp()) IS NOT TRUE",
	1, {INT4OID}
};

void
ps_stream_change_state(int stream_id, const PsState *state, bool news, PsStateChange *change)
{
	Datum		args[7];
	char		nulls[7] = {' ', ' ', state->error ? ' ' : 'n', state->hint ? ' ' : 'n', state->next_attempt_ms < 0 ? 'n' : ' ', ' ', ' '};

	args[0] = Int32GetDatum(stream_id);
	args[1] = CStringGetTextDatum(ps_state_names[state->state]);
	args[2] = state->error ? CStringGetTextDatum(state->error) : (Datum) 0;
	args[3] = state->hint ? CStringGetTextDatum(state->hint) : (Datum) 0;
	args[4] = Int64GetDatum(state->next_attempt_ms);
	args[5] = BoolGetDatum(news);
	args[6] = CStringGetTextDatum(ps_rebuild_schema_used() ? "rebuild" : "stream");
	ps_state_log_check();
	ps_state_log_finish(ps_plan_run(&state_plan, args, nulls, SPI_OK_SELECT), change);
}

void
ps_stream_set_state(int stream_id, PsStreamState state, const char *error, const char *hint, int64 next_attempt_ms)
{
	PsState		now = {state, error, hint, next_attempt_ms};
	PsStateChange change;

	ps_stream_change_state(stream_id, &now, false, &change);
}

bool
ps_stream_take_log_minute(int stream_id)
{
	Datum		args[1] = {Int32GetDatum(stream_id)};

	return ps_plan_run(&log_minute_plan, args, NULL, SPI_OK_UPDATE) > 0;
}

bool
ps_stream_is_foreign(const PsStream *stream)
{
	return stream->cluster != NULL && strcmp(stream->cluster, ps_cluster_here()) != 0;
}

PsState
ps_stream_foreign_state(const PsStream *stream)
{
	PsState		state = {PS_STATE_FOREIGN_CLUSTER, NULL, PS_FOREIGN_HINT, -1};

	state.error = psprintf("the stream belongs to cluster \"%s\", and this server is of cluster \"%s\"",
						   stream->cluster, ps_cluster_here());
	return state;
}

void
ps_stream_adopt(int stream_id)
{
	Datum		args[2] = {Int32GetDatum(stream_id), CStringGetTextDatum(ps_cluster_here())};

	(void) ps_plan_run(&adopt_plan, args, NULL, SPI_OK_UPDATE);
}

void
ps_streams_cannot_start(const char *error, const char *hint, int64 next_attempt_ms)
{
	Datum		args[4] = {CStringGetTextDatum(error), CStringGetTextDatum(hint), ObjectIdGetDatum(MyDatabaseId), Int64GetDatum(next_attempt_ms)};

	ps_state_log_check();
	if (ps_plan_run(&cannot_start_plan, args, NULL, SPI_OK_SELECT) > 0)
		ereport(LOG,
				(errmsg("streams do not run: %s", error),
				 errhint("%s", hint)));
}

char *
ps_stream_missing_data(int stream_id)
{
	Datum		args[2] = {Int32GetDatum(stream_id), ObjectIdGetDatum(MyDatabaseId)};
	char	   *table;

	if (ps_distributed())
		return NULL;			/* each node has a part of the data, and offsets are in the shards */
	if (ps_plan_run(&missing_plan, args, NULL, SPI_OK_SELECT) == 0)
		return NULL;
	table = ps_plan_text(0, 1);
	return table == NULL ? NULL : psprintf("%s events were applied, and table %s is empty", ps_plan_text(0, 2), table);
}
