/*
 * process_counters.c
 *	  The SQL of process_counters.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "message.h"
#include "store/plan.h"
#include "store/process_counters.h"
#include "store/rebuild_schema.h"
#include "utils/builtins.h"

#define SET_TO_ZERO(counter) #counter " = 0"

#define IS_RESTART "c.registration = excluded.registration"
#define FOLLOWS "COALESCE(c.restarted_at > pg_catalog.clock_timestamp() - '10 minutes'::interval, false)"

static PsPlan start_plan = {
	"INSERT INTO profile_stream_internal.process_counters AS c (stream_id, process, registration) VALUES ($1, $2, $3)"
	" ON CONFLICT (stream_id, process) DO UPDATE SET registration = excluded.registration,"
	" restarts = c.restarts + (" IS_RESTART ")::int,"
	" restarted_at = CASE WHEN " IS_RESTART " THEN pg_catalog.clock_timestamp() ELSE c.restarted_at END,"
	" restarting_since = CASE WHEN " IS_RESTART " AND NOT " FOLLOWS " THEN pg_catalog.clock_timestamp() ELSE c.restarting_since END,"
	" restarts_in_row = CASE WHEN NOT (" IS_RESTART ") THEN c.restarts_in_row WHEN " FOLLOWS " THEN c.restarts_in_row + 1 ELSE 1 END",
	3, {INT4OID, TEXTOID, INT8OID},.only = "process_counters"
};

static PsPlan count_plan = {
	"UPDATE profile_stream_internal.process_counters c SET errors = c.errors + $3, retries = c.retries + $4"
	" WHERE c.stream_id = $1 AND c.process = $2",
	4, {INT4OID, TEXTOID, INT8OID, INT8OID},.only = "process_counters"
};

/* what a partition counts stays: reconcile() compares it with the offsets */
static PsPlan reset_plan = {
	"WITH p AS (UPDATE profile_stream_internal.process_counters c SET " PS_PROCESS_COUNTERS(SET_TO_ZERO, ", ") " WHERE c.stream_id = $1),"
	" s AS (UPDATE profile_stream_internal.sink_status k SET delivered = 0, refused = 0 WHERE k.stream_id = $1)"
	" UPDATE profile_stream_internal.stream_status t SET notifications_skipped = 0, stats_reset = pg_catalog.clock_timestamp() WHERE t.stream_id = $1",
	1, {INT4OID}
};

void
ps_process_count_start(int stream_id, const char *process, int64 registration)
{
	Datum		args[3] = {Int32GetDatum(stream_id), CStringGetTextDatum(process), Int64GetDatum(registration)};

	if (!ps_rebuild_schema_used())
		(void) ps_plan_run(&start_plan, args, NULL, SPI_OK_INSERT);
}

void
ps_process_count(int stream_id, const char *process, int64 errors, int64 retries)
{
	Datum		args[4] = {Int32GetDatum(stream_id), CStringGetTextDatum(process), Int64GetDatum(errors), Int64GetDatum(retries)};

	if (!ps_rebuild_schema_used())
		(void) ps_plan_run(&count_plan, args, NULL, SPI_OK_UPDATE);
}

void
ps_process_reset_counters(int stream_id)
{
	Datum		args[1] = {Int32GetDatum(stream_id)};

	(void) ps_plan_run(&reset_plan, args, NULL, SPI_OK_UPDATE);
}
