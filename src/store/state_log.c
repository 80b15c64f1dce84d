/*
 * state_log.c
 *	  The common part of statements that store a state and log its change in
 *	  stream_log. The log keeps the newest rows only.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "settings.h"
#include "store/owner.h"
#include "store/plan.h"
#include "store/rebuild_schema.h"
#include "store/state_log.h"
#include "utils/builtins.h"

const char *const ps_state_names[] = {
	[PS_STATE_NONE] = "none",
	[PS_STATE_STARTING] = "starting",
	[PS_STATE_RUNNING] = "running",
	[PS_STATE_READY] = "ready",
	[PS_STATE_IDLE] = "idle",
	[PS_STATE_RETRYING] = "retrying",
	[PS_STATE_WAITING] = "waiting",
	[PS_STATE_OFFSET_LOST] = "offset_lost",
	[PS_STATE_QUARANTINED] = "quarantined",
	[PS_STATE_NO_OWNER] = "no_owner",
	[PS_STATE_PAUSED] = "paused",
	[PS_STATE_DISABLED] = "disabled",
	[PS_STATE_NO_WORKER_SLOT] = "no_worker_slot",
	[PS_STATE_INCOMPLETE] = "incomplete",
	[PS_STATE_FOREIGN_CLUSTER] = "foreign_cluster",
};

PsStreamState
ps_state_parse(const char *name)
{
	for (int state = PS_STATE_STARTING; name != NULL && state < lengthof(ps_state_names); state++)
		if (strcmp(ps_state_names[state], name) == 0)
			return state;
	return PS_STATE_NONE;
}

/* rows that another process is deleting are skipped */
static PsPlan prune_plan = {
	"DELETE FROM profile_stream.stream_log l WHERE l.log_id = ANY (ARRAY("
	" SELECT x.log_id FROM profile_stream.stream_log x"
	" WHERE x.log_id <= (SELECT pg_catalog.max(y.log_id) FROM profile_stream.stream_log y) - $1 FOR UPDATE SKIP LOCKED))",
	1, {INT8OID},.only = "stream_log"
};

static PsPlan action_plan = {
	"INSERT INTO profile_stream.stream_log (logged_at, stream, what, to_state, reason) VALUES (pg_catalog.clock_timestamp(), $1, $2, $3, $4)",
	4, {TEXTOID, TEXTOID, TEXTOID, TEXTOID},.only = "stream_log"
};

static PsPlan partition_plan = {
	"WITH o AS (SELECT $3 AS from_state, NULL::pg_catalog.timestamptz AS since),"
	" l AS (" PS_STATE_LOG_ADD("true", "$1", "'partition'", "profile_stream_internal.partition_name($1, $6, $2)", "$4", "$5",
							   "CASE WHEN $4 <> 'running' THEN 'See the error of each partition in stat_partitions.' END") ") "
	PS_STATE_LOG_RESULT,
	6, {INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, INT4OID}
};

void
ps_state_log_partition(int stream_id, int32 topic_no, int32 partition, PsStreamState from, PsStreamState to, const char *reason)
{
	Datum		args[6] = {Int32GetDatum(stream_id), Int32GetDatum(partition), CStringGetTextDatum(ps_state_names[from]), CStringGetTextDatum(ps_state_names[to]),
	CStringGetTextDatum(reason), Int32GetDatum(topic_no)};
	PsStateChange change;

	if (ps_rebuild_schema_used())
		return;					/* a rebuild logs its own state */
	ps_state_log_finish(ps_plan_run(&partition_plan, args, NULL, SPI_OK_SELECT), &change);
}

char *
ps_state_log_role(const char *stream, const char *what, const char *action, const char *detail)
{
	const char *role = GetUserNameFromId(GetUserId(), true);
	char	   *reason = psprintf("by role \"%s\"%s%s", role != NULL ? role : "?", detail != NULL ? ": " : "", detail != NULL ? detail : "");

	ereport(LOG_SERVER_ONLY,
			(errmsg("%sstream \"%s\" is %s %s", strcmp(what, "rebuild") == 0 ? "rebuild of " : "", stream, action, reason),
			 errdetail("It is done when the transaction commits."),
			 errhidestmt(true), errhidecontext(true)));
	return reason;
}

void
ps_state_log_action(const char *stream, const char *what, const char *action, const char *detail)
{
	char	   *reason = ps_state_log_role(stream, what, action, detail);
	Datum		args[4] = {CStringGetTextDatum(stream), CStringGetTextDatum(what), CStringGetTextDatum(action), CStringGetTextDatum(reason)};
	PsStateChange change;

	(void) ps_plan_run(&action_plan, args, NULL, SPI_OK_INSERT);
	ps_state_log_finish(0, &change);
}

void
ps_state_log_check(void)
{
	ps_restore_user(ps_switch_to_owner_for(false, "stream_log"));
	ps_restore_user(ps_switch_to_owner_for(false, "streams"));
}

void
ps_state_log_finish(uint64 rows, PsStateChange *change)
{
	Datum		args[1] = {Int64GetDatum(PS_STATE_LOG_ROWS)};
	bool		isnull;

	memset(change, 0, sizeof(PsStateChange));
	if (rows > 0)
	{
		change->from = ps_state_parse(ps_plan_text(0, 1));
		change->lasted_ms = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	}
	(void) ps_plan_run(&prune_plan, args, NULL, SPI_OK_DELETE);
}

char *
ps_state_log_duration(int64 ms)
{
	if (ms < 60000)
		return psprintf("%.1f s", ms / 1000.0);
	if (ms < 3600000)
		return psprintf("%d min %d s", (int) (ms / 60000), (int) (ms / 1000 % 60));
	return psprintf("%d h %d min", (int) (ms / 3600000), (int) (ms / 60000 % 60));
}
