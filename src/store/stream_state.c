/*
 * stream_state.c
 *	  What a worker says of itself in stream_status, for stat_streams.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/plan.h"
#include "store/stream_catalog.h"
#include "utils/builtins.h"

static PsPlan state_plan = {
	"UPDATE profile_stream.stream_status t SET state = $2, error = $3, hint = $4,"
	" error_at = CASE WHEN $3 IS NULL THEN NULL ELSE pg_catalog.clock_timestamp() END,"
	" next_attempt_at = pg_catalog.clock_timestamp() + $5 * '1 ms'::interval, changed_at = pg_catalog.clock_timestamp()"
	" WHERE t.stream_id = $1",
	5, {INT4OID, TEXTOID, TEXTOID, TEXTOID, INT8OID},.only = "stream_status"
};

void
ps_stream_set_state(int stream_id, const char *state, const char *error, const char *hint, int64 next_attempt_ms)
{
	Datum		args[5];
	char		nulls[5] = {' ', ' ', error ? ' ' : 'n', hint ? ' ' : 'n', next_attempt_ms < 0 ? 'n' : ' '};

	args[0] = Int32GetDatum(stream_id);
	args[1] = CStringGetTextDatum(state);
	args[2] = error ? CStringGetTextDatum(error) : (Datum) 0;
	args[3] = hint ? CStringGetTextDatum(hint) : (Datum) 0;
	args[4] = Int64GetDatum(next_attempt_ms);
	(void) ps_plan_run(&state_plan, args, nulls, SPI_OK_UPDATE);
}
