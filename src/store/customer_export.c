/*
 * customer_export.c
 *	  The SQL of export_customer(): one document of everything that the tables, and
 *	  those of a rebuild, have about a customer.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "settings.h"
#include "store/blocked.h"
#include "store/customer_export.h"
#include "store/plan.h"
#include "store/rebuild_schema.h"
#include "store/shards.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#define LIST(row, order, from) \
	"(SELECT COALESCE(pg_catalog.jsonb_agg(" row " ORDER BY " order "), '[]') FROM " from ")"

/* Dead letters beyond so many bytes in all are left out: a document has each as bytes, as text and as JSON, and jsonb has a limit. */
#define MAX_LETTER_BYTES "33554432"

#define LETTERS(schema) \
	"(SELECT pg_catalog.jsonb_build_object('deadLetters', COALESCE(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(d) - 'total'" \
	" || pg_catalog.jsonb_build_object('key_text', profile_stream_internal.dead_letter_text(d.key)," \
	" 'value_text', profile_stream_internal.dead_letter_text(d.value), 'event', profile_stream_internal.dead_letter_json(d.value)) ORDER BY d.dead_letter_id)" \
	" FILTER (WHERE d.total <= " MAX_LETTER_BYTES "), '[]')," \
	" 'deadLettersLeftOut', pg_catalog.count(*) FILTER (WHERE d.total > " MAX_LETTER_BYTES "))" \
	" FROM (SELECT x.*, pg_catalog.sum(1000 + COALESCE(pg_catalog.octet_length(x.value), 0) + COALESCE(pg_catalog.octet_length(x.key), 0)" \
	"  + COALESCE(pg_catalog.octet_length(x.headers::text), 0)) OVER (ORDER BY x.dead_letter_id) AS total FROM " schema ".dead_letters x" \
	"  WHERE profile_stream_internal.dead_letter_relation(ROW(x.*)::profile_stream_internal.dead_letters, $1) = 'own') d)"

/* what is in shards where profiles are distributed. schema: that of the profiles; parts: that of the other tables */
#define OF_SHARD(schema, parts) \
	"pg_catalog.jsonb_build_object(" \
	"'profile', (SELECT pg_catalog.to_jsonb(p) - '{window_state,event_ids,segment_state}'::text[]" \
	" FROM " schema ".materialized_profiles p WHERE p.customer_id = $1)," \
	" 'samples', " LIST("pg_catalog.to_jsonb(s)", "s.series, s.at", \
						schema ".materialized_profiles p" \
						" CROSS JOIN profile_stream_internal.window_state_samples(p.window_state) s WHERE p.customer_id = $1") "," \
	" 'totals', " LIST("pg_catalog.to_jsonb(t)", "t.series", \
					   schema ".materialized_profiles p" \
					   " CROSS JOIN profile_stream_internal.window_state_totals(p.window_state) t WHERE p.customer_id = $1") "," \
	" 'chunks', " LIST("pg_catalog.to_jsonb(c) || pg_catalog.jsonb_build_object('samples', " \
					   LIST("pg_catalog.to_jsonb(s)", "s.at", "profile_stream_internal.chunk_samples(c.samples) s") ")", \
					   "c.metric, c.to_at, c.chunk_no", \
					   parts ".window_chunks c WHERE c.customer_id = $1") "," \
	" 'eventIds', " LIST("pg_catalog.jsonb_build_object('hash', pg_catalog.encode(e.hash, 'hex'), 'appliedAt', e.applied_at)", \
						 "e.applied_at, e.hash", \
						 "(SELECT o.hash, o.applied_at FROM " schema ".materialized_profiles p" \
						 " CROSS JOIN LATERAL profile_stream_internal.open_event_ids(p.event_ids) o WHERE p.customer_id = $1" \
						 " UNION ALL SELECT h.hash, c.sealed_to FROM " parts ".event_id_chunks c" \
						 " CROSS JOIN LATERAL profile_stream_internal.sealed_event_ids(c.hashes) h(hash) WHERE c.customer_id = $1) e") ")"

#define OF_NODE(parts) \
	"pg_catalog.jsonb_build_object('history', " LIST("pg_catalog.to_jsonb(h) - 'customer_id'", "h.changed_at, h.version, h.kind", \
													 parts ".profile_history h WHERE h.customer_id = $1") ")" \
	" || " LETTERS(parts)

#define OTHERS \
	"SELECT pg_catalog.jsonb_build_object('customerId', $1, 'exportedAt', pg_catalog.now()," \
	" 'blocked', EXISTS (SELECT FROM profile_stream_internal.blocking_salt s JOIN profile_stream_internal.blocked_customers b" \
	" ON b.customer_hash = " PS_BLOCKED_HASH("$1") ")," \
	" 'seeds', " LIST("pg_catalog.jsonb_build_object('event', s.event, 'seededAt', s.seeded_at)", "s.seed_id", \
					  "profile_stream_internal.seeds s WHERE s.customer_id = $1") "," \
	" 'rebuild', " OF_SHARD(PS_REBUILD_SCHEMA, PS_REBUILD_SCHEMA) " || " OF_NODE(PS_REBUILD_SCHEMA) ")"

/* the same of tables that the rebuild schema has not */
#define SEGMENTS_OF_SHARD \
	"pg_catalog.jsonb_build_object('pending', " LIST("pg_catalog.jsonb_build_object('stream', s.name, 'sink', q.sink)", "s.name, q.sink", \
		 "(SELECT x.stream_id, x.sink FROM profile_stream_internal.sink_pending x WHERE x.customer_id = $1" \
		 " UNION SELECT o.stream_id, o.sink FROM profile_stream_internal.outbox o WHERE $1 = ANY (o.customer_ids)) q" \
		 " JOIN profile_stream.streams s ON s.stream_id = q.stream_id") \
	", 'segments', " \
	LIST("pg_catalog.jsonb_build_object('segment', m.segment, 'enteredAt', m.entered_at)", "m.segment", \
		 "profile_stream.segment_members m WHERE m.customer_id = $1") "," \
	" 'segmentChecks', " LIST("pg_catalog.to_jsonb(c.due_at)", "c.due_at", "profile_stream_internal.segment_checks c WHERE c.customer_id = $1") "," \
	" 'segmentChanges', " \
	LIST("pg_catalog.jsonb_build_object('kind', c.kind, 'from', c.from_segment, 'to', c.to_segment, 'at', c.changed_at," \
		 " 'quiet', c.quiet, 'eventId', c.event_id, 'eventAt', c.event_at)", \
		 "c.change_id", "profile_stream.segment_changes c WHERE c.customer_id = $1") ")"

static const char export_sql[] = OTHERS " || " OF_SHARD(PS_SCHEMA, PS_INTERNAL_SCHEMA) " || " SEGMENTS_OF_SHARD " || " OF_NODE(PS_INTERNAL_SCHEMA);

/* for a node that has not the shard of the customer */
static const char others_sql[] = OTHERS " || " OF_NODE(PS_INTERNAL_SCHEMA);

Datum
ps_customer_export(const char *customer_id)
{
	static const Oid types[1] = {TEXTOID};
	Datum		args[1] = {CStringGetTextDatum(customer_id)};
	bool		isnull;

	(void) ps_plan_run_once(ps_distributed() && ps_shards_used() == PS_NO_SHARD ? others_sql : export_sql, 1, types, args, true);
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
}
