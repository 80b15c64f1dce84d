/*
 * customer_erasure.c
 *	  The SQL of forget_customer() and export_customer().
 *
 *	  Order of locks, the same everywhere so that no deadlock arises: the customer's,
 *	  which the caller holds; then event_id_chunks, with which applying and swap_rebuild()
 *	  begin too; then the rebuild schema, which swap_rebuild() locks last.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "settings.h"
#include "store/customer_erasure.h"
#include "store/locks.h"
#include "store/owner.h"
#include "store/plan.h"
#include "store/rebuild_catalog.h"
#include "store/rebuild_schema.h"
#include "store/shard_names.h"
#include "utils/builtins.h"

/* one statement for each copy of a table; that of profile_stream comes first */
#define BOTH(schema, statement) {statement(schema), statement(PS_REBUILD_SCHEMA)}

/* the newest ids are in the profile */
#define COUNT_IDS \
	"SELECT FROM profile_stream.materialized_profiles p CROSS JOIN LATERAL profile_stream_internal.open_event_ids(p.event_ids) o" \
	" WHERE p.customer_id = $1 UNION ALL SELECT FROM profile_stream_internal.event_id_chunks c" \
	" CROSS JOIN LATERAL profile_stream_internal.sealed_event_ids(c.hashes) h(hash) WHERE c.customer_id = $1"

#define DELETE_IDS(schema) \
	"DELETE FROM " schema ".event_id_chunks e WHERE e.customer_id = $1"

#define DELETE_PROFILE(schema) \
	"DELETE FROM " schema ".materialized_profiles p WHERE p.customer_id = $1"

#define DELETE_CHUNKS(schema) \
	"DELETE FROM " schema ".window_chunks c WHERE c.customer_id = $1"

#define CONCERN \
	"profile_stream_internal.dead_letter_relation(ROW(d.*)::profile_stream_internal.dead_letters, $1)"

#define DELETE_LETTERS(schema) \
	"DELETE FROM " schema ".dead_letters d WHERE " CONCERN " = 'own'"

#define REDACTED(column) \
	"pg_catalog.convert_from(profile_stream_internal.redact_id(pg_catalog.convert_to(" column ", 'UTF8'), $1, false), 'UTF8')"

/* a dead letter has the bytes of a header that are not text as hexadecimal digits */
#define REDACT_LETTERS(schema) \
	"UPDATE " schema ".dead_letters d SET key = profile_stream_internal.redact_id(d.key, $1, false)," \
	" value = profile_stream_internal.redact_id(d.value, $1, true)," \
	" headers = pg_catalog.replace(" REDACTED("d.headers::text") "," \
	" pg_catalog.encode(pg_catalog.convert_to($1, 'UTF8'), 'hex'), pg_catalog.encode('[erased]', 'hex'))::jsonb," \
	" errors = ARRAY(SELECT " REDACTED("e.error") " FROM pg_catalog.unnest(d.errors) WITH ORDINALITY e(error, n) ORDER BY e.n)," \
	" event_id = " REDACTED("d.event_id") ", event_type = " REDACTED("d.event_type") \
	" WHERE " CONCERN " = 'mentions'"

#define REDACT_STATUS(schema) \
	"UPDATE " schema ".stream_status t SET error = " REDACTED("t.error") ", hint = " REDACTED("t.hint") \
	" WHERE profile_stream_internal.contains_id(pg_catalog.convert_to(pg_catalog.concat_ws(' ', t.error, t.hint), 'UTF8'), $1, false)"

#define REDACT_OFFSETS(schema) \
	"UPDATE " schema ".stream_offsets o SET error = " REDACTED("o.error") \
	" WHERE profile_stream_internal.contains_id(pg_catalog.convert_to(o.error, 'UTF8'), $1, false)"

#define REDACT_SINKS \
	"UPDATE profile_stream_internal.sink_status t SET error = " REDACTED("t.error") ", hint = " REDACTED("t.hint") \
	" WHERE profile_stream_internal.contains_id(pg_catalog.convert_to(pg_catalog.concat_ws(' ', t.error, t.hint), 'UTF8'), $1, false)"

#define REDACT_LOG \
	"UPDATE profile_stream.stream_log t SET reason = " REDACTED("t.reason") ", hint = " REDACTED("t.hint") \
	" WHERE profile_stream_internal.contains_id(pg_catalog.convert_to(pg_catalog.concat_ws(' ', t.reason, t.hint), 'UTF8'), $1, false)"

#define DELETE_HISTORY(schema) \
	"DELETE FROM " schema ".profile_history h WHERE h.customer_id = $1"

#define DELETE_MEMBERSHIPS \
	"DELETE FROM profile_stream.segment_members m WHERE m.customer_id = $1"

#define DELETE_SEGMENT_CHANGES \
	"DELETE FROM profile_stream.segment_changes c WHERE c.customer_id = $1"

/* errors that refreshes of scores and segments met */
#define REDACT_ERROR(table) \
	"UPDATE profile_stream_internal." table " t SET error = " REDACTED("t.error") \
	" WHERE profile_stream_internal.contains_id(pg_catalog.convert_to(t.error, 'UTF8'), $1, false)"

/* where a refresh has come to; it begins anew */
#define FORGET_REACHED \
	"UPDATE profile_stream_internal.score_passes s SET reached = '' WHERE s.reached = $1"

#define DELETE_SEGMENT_CHECKS \
	"DELETE FROM profile_stream_internal.segment_checks c WHERE c.customer_id = $1"

/* up to whom live segments have seen the customers; they begin anew */
#define FORGET_FILLED \
	"UPDATE profile_stream_internal.segments s SET filled_to = '' WHERE s.filled_to = $1"

#define FORGET_FILLED_OF_SHARD \
	"UPDATE profile_stream_internal.segment_fills f SET filled_to = '' WHERE f.filled_to = $1"

#define DELETE_SEEDS \
	"DELETE FROM profile_stream_internal.seeds s WHERE s.customer_id = $1"

/* the place of the last row becomes that of all rows of its time */
#define FORGET_PLACE(table) \
	"UPDATE profile_stream_internal." table " b SET last_event_id = '', last_customer_id = '', last_rows = 0 WHERE b.last_customer_id = $1" \
	" OR profile_stream_internal.contains_id(pg_catalog.convert_to(b.last_event_id, 'UTF8'), $1, false)"

static const char *const ids_sql[] = BOTH(PS_INTERNAL_SCHEMA, DELETE_IDS);
static const char *const profile_sql[] = BOTH(PS_SCHEMA, DELETE_PROFILE);
static const char *const chunks_sql[] = BOTH(PS_INTERNAL_SCHEMA, DELETE_CHUNKS);
static const char *const history_sql[] = BOTH(PS_INTERNAL_SCHEMA, DELETE_HISTORY);
static const char *const letters_sql[] = BOTH(PS_INTERNAL_SCHEMA, DELETE_LETTERS);
static const char *const mentions_sql[] = BOTH(PS_INTERNAL_SCHEMA, REDACT_LETTERS);
static const char *const status_sql[] = BOTH(PS_INTERNAL_SCHEMA, REDACT_STATUS);
static const char *const offsets_sql[] = BOTH(PS_INTERNAL_SCHEMA, REDACT_OFFSETS);

static const char channels_sql[] =
"SELECT s.notify_channel FROM profile_stream.streams s WHERE s.notify <> 'off' AND s.notify_channel IS NOT NULL UNION SELECT $1 ORDER BY 1";

/* Runs a statement on a customer; returns how many rows it found or wrote. Nothing is in shards here when the customer's is on another node. */
static int64
customer_erasure_run(const char *sql, Datum *args)
{
	static const Oid types[1] = {TEXTOID};
	PsSharded	table;

	if (ps_shard_names_missing(sql, &table))
		return 0;
	return ps_plan_run_once(sql, 1, types, args, false);
}

/* Runs a statement on both copies of a table; returns how many rows of the first one it wrote. */
static int64
run_both(const char *const *sql, Datum *args)
{
	int64		served = customer_erasure_run(sql[0], args);

	(void) customer_erasure_run(sql[1], args);
	return served;
}

/* As the owner of the tables, because nobody else may write stream_log. */
static void
redact_log(Datum *args)
{
	PsSavedUser saved = ps_switch_to_owner();

	(void) customer_erasure_run(REDACT_LOG, args);
	ps_restore_user(saved);
}

/* Keeps a rebuild from writing, or from beginning, until this transaction ends. */
static void
lock_rebuild_schema(void)
{
	bool		rebuilding = ps_rebuild_find(0) != NULL;

	ps_lock_copy(true, rebuilding ? ShareRowExclusiveLock : RowExclusiveLock);
	if (!rebuilding && ps_rebuild_find(0) != NULL)
		ps_lock_copy(true, ShareRowExclusiveLock);	/* a rebuild began while we waited */
}

void
ps_erasure_remove(const char *customer_id, PsErased *erased)
{
	Datum		args[1] = {CStringGetTextDatum(customer_id)};

	erased->event_ids = customer_erasure_run(COUNT_IDS, args);
	(void) customer_erasure_run(ids_sql[0], args);
	lock_rebuild_schema();
	(void) customer_erasure_run(ids_sql[1], args);
	erased->profiles = run_both(profile_sql, args);
	erased->chunks = run_both(chunks_sql, args);
	(void) run_both(history_sql, args);
	erased->dead_letters = run_both(letters_sql, args);
	erased->redacted = run_both(mentions_sql, args);
	(void) run_both(status_sql, args);
	(void) run_both(offsets_sql, args);
	(void) customer_erasure_run(REDACT_SINKS, args);
	redact_log(args);
	(void) customer_erasure_run(DELETE_MEMBERSHIPS, args);
	(void) customer_erasure_run(DELETE_SEGMENT_CHANGES, args);
	(void) customer_erasure_run(DELETE_SEGMENT_CHECKS, args);
	(void) customer_erasure_run(FORGET_FILLED, args);
	(void) customer_erasure_run(FORGET_FILLED_OF_SHARD, args);
	(void) customer_erasure_run(REDACT_ERROR("score_refresh"), args);
	(void) customer_erasure_run(FORGET_REACHED, args);
	(void) customer_erasure_run(REDACT_ERROR("segments"), args);
	(void) customer_erasure_run(DELETE_SEEDS, args);
	(void) customer_erasure_run(FORGET_PLACE("backfills"), args);
	(void) customer_erasure_run(FORGET_PLACE("stream_rebuilds"), args);
	(void) customer_erasure_run(REDACT_ERROR("backfills"), args);
}

List *
ps_erasure_channels(const char *other)
{
	static const Oid types[1] = {TEXTOID};
	Datum		args[1] = {CStringGetTextDatum(other)};
	uint64		n = ps_plan_run_once(channels_sql, 1, types, args, false);
	List	   *channels = NIL;

	for (uint64 i = 0; i < n; i++)
		channels = lappend(channels, ps_plan_text(i, 1));
	SPI_freetuptable(SPI_tuptable);
	return channels;
}
