/*
 * erasure.c
 *	  The SQL of forget_customer() and export_customer().
 *
 *	  Locks: the customer's, which the caller has; then event_ids, where applying
 *	  and swap_rebuild() begin; then the shadow, which swap_rebuild() locks last.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/erasure.h"
#include "store/event_log.h"
#include "store/lock.h"
#include "store/plan.h"
#include "store/rebuild.h"
#include "store/shadow.h"
#include "utils/builtins.h"

#define OF_EVENT INT64CONST(0xFFFFFFFF) /* the half of event_key() that is of the event id */

/* the same statement for each copy of a table */
#define BOTH(plan, ...) \
	{{.sql = plan("profile_stream"), __VA_ARGS__}, {.sql = plan(PS_SHADOW_SCHEMA), __VA_ARGS__}}

#define DELETE_IDS(schema) \
	"DELETE FROM " schema ".event_ids e WHERE e.customer_id = $1" \
	" AND profile_stream.event_key(e.customer_id, e.event_id) BETWEEN $2 AND $3"

#define DELETE_PROFILE(schema) \
	"DELETE FROM " schema ".materialized_profiles p WHERE p.customer_id = $1"

#define DELETE_CHUNKS(schema) \
	"DELETE FROM " schema ".window_chunks c WHERE c.customer_id = $1"

#define CONCERN \
	"profile_stream.dead_letter_concern(ROW(d.*)::profile_stream.dead_letters, $1)"

#define DELETE_LETTERS(schema) \
	"DELETE FROM " schema ".dead_letters d WHERE " CONCERN " = 'own'"

#define REDACTED(column) \
	"pg_catalog.convert_from(profile_stream.without_mentions(pg_catalog.convert_to(" column ", 'UTF8'), $1, false), 'UTF8')"

/* bytes of a header that are no text are in the letter as hexadecimal digits */
#define REDACT_LETTERS(schema) \
	"UPDATE " schema ".dead_letters d SET key = profile_stream.without_mentions(d.key, $1, false)," \
	" value = profile_stream.without_mentions(d.value, $1, true)," \
	" headers = pg_catalog.replace(" REDACTED("d.headers::text") "," \
	" pg_catalog.encode(pg_catalog.convert_to($1, 'UTF8'), 'hex'), pg_catalog.encode('[erased]', 'hex'))::jsonb," \
	" errors = ARRAY(SELECT " REDACTED("e.error") " FROM pg_catalog.unnest(d.errors) WITH ORDINALITY e(error, n) ORDER BY e.n)," \
	" event_id = " REDACTED("d.event_id") ", event_type = " REDACTED("d.event_type") \
	" WHERE " CONCERN " = 'mentions'"

#define REDACT_STATUS(schema) \
	"UPDATE " schema ".stream_status t SET error = " REDACTED("t.error") ", hint = " REDACTED("t.hint") \
	" WHERE profile_stream.mentions(pg_catalog.convert_to(pg_catalog.concat_ws(' ', t.error, t.hint), 'UTF8'), $1, false)"

#define REDACT_OFFSETS(schema) \
	"UPDATE " schema ".stream_offsets o SET error = " REDACTED("o.error") \
	" WHERE profile_stream.mentions(pg_catalog.convert_to(o.error, 'UTF8'), $1, false)"

#define REDACT_SINKS \
	"UPDATE profile_stream.sink_status t SET error = " REDACTED("t.error") ", hint = " REDACTED("t.hint") \
	" WHERE profile_stream.mentions(pg_catalog.convert_to(pg_catalog.concat_ws(' ', t.error, t.hint), 'UTF8'), $1, false)"
/**INDENT** Error@45: Unbalanced parens */
/**INDENT** Warning@45: Extra ) */

static PsPlan ids_plan[] = BOTH(DELETE_IDS,.nargs = 3,.argtypes = {TEXTOID, INT8OID, INT8OID});
/**INDENT** Error@46: Unbalanced parens */
/**INDENT** Warning@46: Extra ) */
static PsPlan profile_plan[] = BOTH(DELETE_PROFILE,.nargs = 1,.argtypes = {TEXTOID});
/**INDENT** Error@47: Unbalanced parens */
/**INDENT** Warning@47: Extra ) */
static PsPlan chunks_plan[] = BOTH(DELETE_CHUNKS,.nargs = 1,.argtypes = {TEXTOID});
/**INDENT** Error@48: Unbalanced parens */
/**INDENT** Warning@48: Extra ) */
static PsPlan letters_plan[] = BOTH(DELETE_LETTERS,.nargs = 1,.argtypes = {TEXTOID});
/**INDENT** Error@49: Unbalanced parens */
/**INDENT** Warning@49: Extra ) */
static PsPlan mentions_plan[] = BOTH(REDACT_LETTERS,.nargs = 1,.argtypes = {TEXTOID});
/**INDENT** Error@50: Unbalanced parens */
/**INDENT** Warning@50: Extra ) */
static PsPlan status_plan[] = BOTH(REDACT_STATUS,.nargs = 1,.argtypes = {TEXTOID});
/**INDENT** Error@51: Unbalanced parens */
/**INDENT** Warning@51: Extra ) */
static PsPlan offsets_plan[] = BOTH(REDACT_OFFSETS,.nargs = 1,.argtypes = {TEXTOID});
static PsPlan sinks_plan = {REDACT_SINKS,.nargs = 1,.argtypes = {TEXTOID}};

static PsPlan channels_plan = {
	"SELECT s.notify_channel FROM profile_stream.streams s WHERE s.notify <> 'off' UNION SELECT $1 ORDER BY 1",
	1, {TEXTOID}
};

/* Runs a statement on both copies of a table; returns how many rows of the served one it wrote. */
static int64
run_both(PsPlan *plans, Datum *args, int expected)
{
	int64		served = ps_plan_run_once(&plans[0], args, expected);

	(void) ps_plan_run_once(&plans[1], args, expected);
	return served;
}

void
ps_erasure_keys(const char *customer_id, int64 *low, int64 *high)
{
	int64		key = ps_event_key(customer_id, strlen(customer_id), "", 0);

	*low = key & ~OF_EVENT;
	*high = key | OF_EVENT;
}

/* Keeps a rebuild from writing until this transaction ends, or from beginning. */
static void
lock_shadow(void)
{
	bool		rebuilding = ps_rebuild_find() != NULL;

	ps_lock_copy(PS_SHADOW_SCHEMA, rebuilding ? ShareRowExclusiveLock : RowExclusiveLock);
	if (!rebuilding && ps_rebuild_find() != NULL)
		ps_lock_copy(PS_SHADOW_SCHEMA, ShareRowExclusiveLock);	/* it began while we waited */
}

void
ps_erasure_remove(const char *customer_id, PsErased *erased)
{
	int64		low;
	int64		high;
	Datum		args[3] = {CStringGetTextDatum(customer_id)};

	ps_erasure_keys(customer_id, &low, &high);
	args[1] = Int64GetDatum(low);
	args[2] = Int64GetDatum(high);
	erased->event_ids = ps_plan_run_once(&ids_plan[0], args, SPI_OK_DELETE);
	lock_shadow();
	(void) ps_plan_run_once(&ids_plan[1], args, SPI_OK_DELETE);
	erased->profiles = run_both(profile_plan, args, SPI_OK_DELETE);
	erased->chunks = run_both(chunks_plan, args, SPI_OK_DELETE);
	erased->dead_letters = run_both(letters_plan, args, SPI_OK_DELETE);
	erased->redacted = run_both(mentions_plan, args, SPI_OK_UPDATE);
	(void) run_both(status_plan, args, SPI_OK_UPDATE);
	(void) run_both(offsets_plan, args, SPI_OK_UPDATE);
	(void) ps_plan_run_once(&sinks_plan, args, SPI_OK_UPDATE);
}

List *
ps_erasure_channels(const char *other)
{
	Datum		args[1] = {CStringGetTextDatum(other)};
	uint64		n = ps_plan_run_once(&channels_plan, args, SPI_OK_SELECT);
	List	   *channels = NIL;

	for (uint64 i = 0; i < n; i++)
		channels = lappend(channels, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1));
	SPI_freetuptable(SPI_tuptable);
	return channels;
}
