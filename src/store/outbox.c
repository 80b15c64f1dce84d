/*
 * outbox.c
 *	  The SQL of outbox, sink_pending and sink_status. Apply only appends to the
 *	  outbox, and only the relay writes the other two tables, so that they never wait
 *	  for each other.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/pg_type.h"
#include "core/last_event.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "store/dead_letter_outbox.h"
#include "store/distributed.h"
#include "store/outbox.h"
#include "store/plan.h"
#include "store/rebuild_schema.h"
#include "store/segment_catalog.h"
#include "store/shard_fence.h"
#include "store/shard_names.h"
#include "store/shard_offsets.h"
#include "store/shards.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MAX_TYPES "64"			/* event types of one customer that are stored */
#define MAX_CHANGES "64"		/* changes of segments in one message */

#define NEXT_PENDING "pg_catalog.nextval('profile_stream_internal.sink_pending_pending_id_seq'::pg_catalog.regclass)"

/* null: no sink of profiles in this database; else whether one wants event types. build_any_statement() makes it. */
static PsPlan any_plan;

static PsPlan add_plan = {
	"INSERT INTO profile_stream_internal.outbox (outbox_id, customer_id, stream_id, sink, customer_ids, customers, event_types, last_events)"
	" SELECT " PS_OUTBOX_PLACE("$4", "$1") ", k.stream_id, k.sink, $1, pg_catalog.cardinality($1), CASE WHEN k.content = 'changes' THEN $2 END,"
	" CASE WHEN k.content = 'changes' THEN $3 END FROM profile_stream_internal.stream_sinks k"
	" WHERE k.content = 'profiles' OR (k.content = 'changes' AND k.stream_id <> ALL ($5))",
	5, {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8OID, INT4ARRAYOID}
};

/* the same for one stream that watches */
static PsPlan add_watched_plan = {
	"INSERT INTO profile_stream_internal.outbox (outbox_id, customer_id, stream_id, sink, customer_ids, customers, event_types, last_events)"
	" SELECT " PS_OUTBOX_PLACE("$4", "$1") ", k.stream_id, k.sink, $1, pg_catalog.cardinality($1), $2, $3 FROM profile_stream_internal.stream_sinks k"
	" WHERE k.content = 'changes' AND k.stream_id = $5",
	5, {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8OID, INT4OID}
};

static PsPlan serve_plan = {
	"INSERT INTO profile_stream_internal.outbox (outbox_id, customer_id, stream_id, sink, customer_ids, customers)"
	" SELECT " PS_OUTBOX_PLACE("$3", "ARRAY[$1]") ", k.stream_id, k.sink, ARRAY[$1], 1 FROM profile_stream_internal.stream_sinks k"
	" JOIN profile_stream_internal.stream_status t ON t.stream_id = k.stream_id AND t.enabled AND t.database = $2 WHERE k.content = 'profiles'",
	3, {TEXTOID, OIDOID, INT8OID}
};

static PsPlan refill_plan = {
	"WITH o AS (INSERT INTO profile_stream_internal.outbox (outbox_id, customer_id, stream_id, sink, customer_ids, customers)"
	" SELECT " PS_OUTBOX_PLACE("$3", "pg_catalog.array_agg(p.customer_id)") ", $1, $2, pg_catalog.array_agg(p.customer_id), pg_catalog.count(*) FROM"
	" (SELECT x.customer_id, pg_catalog.row_number() OVER () / 5000 AS part FROM profile_stream.materialized_profiles x) p"
	" GROUP BY p.part RETURNING customers) SELECT COALESCE(pg_catalog.sum(o.customers), 0)::int8 FROM o",
	3, {INT4OID, TEXTOID, INT8OID}
};

#define IS_GONE(row) \
	row ".stream_id = $1 AND NOT EXISTS (SELECT FROM profile_stream_internal.stream_sinks k WHERE k.stream_id = $1 AND k.sink = " row ".sink)"

static PsPlan clear_plan = {
	"WITH d AS (DELETE FROM profile_stream_internal.dead_letter_outbox d WHERE d.stream_id = $1 AND NOT EXISTS"
	" (SELECT FROM profile_stream_internal.stream_sinks k WHERE k.stream_id = $1 AND k.content = 'dead_letters'))"
	" DELETE FROM profile_stream_internal.sink_status s WHERE " IS_GONE("s"),
	1, {INT4OID}
};

static PsPlan gone_plan = {
	"WITH o AS (DELETE FROM profile_stream_internal.outbox o WHERE NOT EXISTS"
	" (SELECT FROM profile_stream_internal.stream_sinks k WHERE k.stream_id = o.stream_id AND k.sink = o.sink))"
	" DELETE FROM profile_stream_internal.sink_pending p WHERE NOT EXISTS"
	" (SELECT FROM profile_stream_internal.stream_sinks k WHERE k.stream_id = p.stream_id AND k.sink = p.sink)"
};

/* ranges instead of lists: the kept plan might be a bad one for lists, with a cost that is quadratic in the backlog */
static PsPlan move_plan = {
	"WITH o AS (DELETE FROM profile_stream_internal.outbox o WHERE o.stream_id = $1 AND o.sink = $2 AND o.outbox_id <= ("
	" SELECT pg_catalog.max(y.outbox_id) FROM (SELECT x.outbox_id, pg_catalog.sum(x.customers) OVER (ORDER BY x.outbox_id) - x.customers AS before"
	" FROM (SELECT z.outbox_id, z.customers FROM profile_stream_internal.outbox z WHERE z.stream_id = $1 AND z.sink = $2"
	" ORDER BY z.outbox_id LIMIT 1000) x) y WHERE y.before < $3) RETURNING o.outbox_id, o.customer_ids, o.event_types, o.last_events, o.first_change, o.changed_at),"
	" c AS (SELECT u.customer_id, pg_catalog.array_agg(DISTINCT t.event_type) FILTER (WHERE t.event_type IS NOT NULL) AS event_types,"
	" (pg_catalog.array_agg(u.last_event ORDER BY o.outbox_id DESC) FILTER (WHERE u.last_event IS NOT NULL))[1] AS last_event,"
	" pg_catalog.min(o.first_change) AS first_change, pg_catalog.min(o.changed_at) AS changed_at"
	" FROM o CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(o.customer_ids), pg_catalog.unnest(o.event_types), pg_catalog.unnest(o.last_events))"
	" AS u(customer_id, event_types, last_event)"
	" LEFT JOIN LATERAL pg_catalog.jsonb_array_elements_text(u.event_types::jsonb) AS t(event_type) ON true GROUP BY u.customer_id)"
	" INSERT INTO profile_stream_internal.sink_pending AS s (pending_id, stream_id, sink, customer_id, event_types, last_event, first_change, changed_at, writer)"
	" SELECT " NEXT_PENDING ", $1, $2, c.customer_id, COALESCE(c.event_types[1:" MAX_TYPES "], '{}'), c.last_event, c.first_change, c.changed_at, $5 FROM c"

	/*
	 * up to $4 old documents are being delivered and then removed: these customers get a new id, which is delivered
	 * later
	 */
	" ON CONFLICT (stream_id, sink, customer_id) DO UPDATE SET pending_id = CASE WHEN s.pending_id <= $4"
	" THEN " NEXT_PENDING " ELSE s.pending_id END,"
	" event_types = (ARRAY(SELECT DISTINCT t.event_type FROM pg_catalog.unnest(s.event_types || excluded.event_types) AS t(event_type)))[1:" MAX_TYPES "],"
	" last_event = COALESCE(excluded.last_event, s.last_event), first_change = LEAST(s.first_change, excluded.first_change),"
	" changed_at = CASE WHEN s.pending_id <= $4 THEN excluded.changed_at ELSE s.changed_at END"
	" WHERE s.pending_id <= $4 OR NOT s.event_types @> excluded.event_types OR excluded.last_event IS NOT NULL OR excluded.first_change IS NOT NULL",
	5, {INT4OID, TEXTOID, INT8OID, INT8OID, TEXTOID}
};

#define READ_PROFILES(row) \
	"SELECT x.customer_id, COALESCE(p.version, 0)," \
	" CASE WHEN p.customer_id IS NOT NULL THEN profile_stream_internal.profile_document(" row ", pg_catalog.now())::text END, x.pending_id, x.changed_at" \
	" FROM (SELECT q.customer_id, q.pending_id, q.changed_at FROM profile_stream_internal.sink_pending q WHERE q.stream_id = $1 AND q.sink = $2" \
	" ORDER BY q.pending_id LIMIT $3) x LEFT JOIN profile_stream.materialized_profiles p ON p.customer_id = x.customer_id"

#define READ_CHANGES(row) \
	"SELECT x.customer_id, COALESCE(p.version, 0), CASE WHEN p.customer_id IS NOT NULL THEN pg_catalog.json_build_object(" \
	"'customerId', p.customer_id, 'version', p.version, 'updatedAt', profile_stream_internal.json_timestamp(p.updated_at)," \
	" 'eventTypes', x.event_types, 'lastEvent', x.last_event::json, 'segmentChanges', COALESCE(g.changes, '[]')," \
	" 'profile', profile_stream_internal.profile_document(" row ", pg_catalog.now()))::text END, x.pending_id, x.changed_at" \
	" FROM (SELECT q.customer_id, q.event_types, q.last_event, q.first_change, q.pending_id, q.changed_at FROM profile_stream_internal.sink_pending q WHERE q.stream_id = $1 AND q.sink = $2" \
	" ORDER BY q.pending_id LIMIT $3) x LEFT JOIN profile_stream.materialized_profiles p ON p.customer_id = x.customer_id" \
	" LEFT JOIN LATERAL (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('changeId', n.change_id, 'kind', n.kind, 'from', n.from_segment, 'to', n.to_segment," \
	" 'at', profile_stream_internal.json_timestamp(n.changed_at), 'quiet', n.quiet, 'eventId', n.event_id) ORDER BY n.change_id) AS changes" \
	" FROM (SELECT * FROM profile_stream.segment_changes c WHERE c.customer_id = x.customer_id AND c.change_id >= x.first_change" \
	" ORDER BY c.change_id DESC LIMIT " MAX_CHANGES ") n) g ON x.first_change IS NOT NULL"

static PsPlan read_plan = {READ_PROFILES("p"), 3, {INT4OID, TEXTOID, INT8OID}};
static PsPlan read_shard_plan = {READ_PROFILES(PS_ROW_OF_PROFILES), 3, {INT4OID, TEXTOID, INT8OID}};
static PsPlan read_changelog_plan = {READ_CHANGES("p"), 3, {INT4OID, TEXTOID, INT8OID}};
static PsPlan read_changelog_shard_plan = {READ_CHANGES(PS_ROW_OF_PROFILES), 3, {INT4OID, TEXTOID, INT8OID}};

static PsPlan other_writers_plan = {
	"SELECT DISTINCT p.writer FROM profile_stream_internal.sink_pending p WHERE p.stream_id = $1 AND p.sink = $2 AND p.writer <> $3",
	3, {INT4OID, TEXTOID, TEXTOID}
};

/* with numbers of this node, which are as its sequence has them: those of others may be greater than what is read next */
static PsPlan take_over_plan = {
	"UPDATE profile_stream_internal.sink_pending p SET writer = $3, pending_id = " NEXT_PENDING
	" WHERE p.stream_id = $1 AND p.sink = $2 AND p.writer <> $3",
	3, {INT4OID, TEXTOID, TEXTOID}
};

static PsPlan backlog_plan = {
	"SELECT (SELECT pg_catalog.count(*) FROM profile_stream_internal.sink_pending p WHERE p.stream_id = $1 AND p.sink = $2)"
	" + (SELECT COALESCE(pg_catalog.sum(o.customers), 0)::bigint FROM profile_stream_internal.outbox o WHERE o.stream_id = $1 AND o.sink = $2),"
	" LEAST((SELECT p.changed_at FROM profile_stream_internal.sink_pending p WHERE p.stream_id = $1 AND p.sink = $2 ORDER BY p.pending_id LIMIT 1),"
	" (SELECT o.changed_at FROM profile_stream_internal.outbox o WHERE o.stream_id = $1 AND o.sink = $2 ORDER BY o.outbox_id LIMIT 1))",
	2, {INT4OID, TEXTOID}
};

static PsPlan delivered_plan = {
	"DELETE FROM profile_stream_internal.sink_pending p WHERE p.stream_id = $1 AND p.sink = $2 AND p.pending_id <= $3",
	3, {INT4OID, TEXTOID, INT8OID}
};

static PsPlan count_plan = {
	"INSERT INTO profile_stream_internal.sink_status AS s (stream_id, sink, state, delivered, refused, delivered_at)"
	" VALUES ($1, $2, 'running', $3, $4, pg_catalog.clock_timestamp())"
	" ON CONFLICT (stream_id, sink) DO UPDATE SET delivered = s.delivered + $3, refused = s.refused + $4, state = 'running',"
	" error = NULL, hint = NULL, error_at = NULL, next_attempt_at = NULL, delivered_at = excluded.delivered_at,"
	" since = CASE WHEN s.state = 'running' THEN s.since ELSE excluded.delivered_at END",
	4, {INT4OID, TEXTOID, INT8OID, INT8OID}
};

/* a change between these states is not logged; with $7 even an unchanged state is, because its reason is new */
#define IS_WELL(state) state " IN ('starting', 'idle', 'running')"

static PsPlan state_plan = {
	"WITH o AS (SELECT (SELECT s.state FROM profile_stream_internal.sink_status s WHERE s.stream_id = $1 AND s.sink = $2) AS from_state,"
	" (SELECT s.since FROM profile_stream_internal.sink_status s WHERE s.stream_id = $1 AND s.sink = $2) AS since),"
	" n AS (INSERT INTO profile_stream_internal.sink_status AS s (stream_id, sink, state, error, hint, error_at, next_attempt_at)"
	" VALUES ($1, $2, $3, $4, $5, CASE WHEN $4 IS NOT NULL THEN pg_catalog.clock_timestamp() END,"
	" pg_catalog.clock_timestamp() + $6 * '1 ms'::interval)"
	" ON CONFLICT (stream_id, sink) DO UPDATE SET state = excluded.state, error = excluded.error, hint = excluded.hint,"
	" error_at = excluded.error_at, next_attempt_at = excluded.next_attempt_at,"
	" since = CASE WHEN s.state = excluded.state THEN s.since ELSE pg_catalog.clock_timestamp() END),"
	" l AS (" PS_STATE_LOG_ADD("$7 OR o.from_state IS DISTINCT FROM $3 AND NOT (" IS_WELL("COALESCE(o.from_state, 'starting')") " AND " IS_WELL("$3") ")",
							   "$1", "'sink'", "$2", "$3", "$4", "$5") ") "
	PS_STATE_LOG_RESULT,
	7, {INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, BOOLOID},.only = "sink_status"
};

static PsPlan known_plan = {
	"SELECT FROM profile_stream_internal.sink_status s WHERE s.stream_id = $1 AND s.sink = $2",
	2, {INT4OID, TEXTOID}
};

/*
 * Makes the statement that each commit runs first, from the list of sinks. It names the
 * columns themselves, because the view stream_sinks takes twice as long.
 */
static void
build_any_statement(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	const char *any = "false";
	const char *changes = "false";

	for (int kind = 0; kind < PS_SINK_KINDS; kind++)
	{
		if (ps_sinks[kind].content != PS_DELIVERS_DEAD_LETTERS)
			any = psprintf("%s OR s.%s IS NOT NULL", any, ps_sinks[kind].option);
		if (ps_sinks[kind].content == PS_DELIVERS_CHANGES)
			changes = psprintf("%s OR s.%s IS NOT NULL", changes, ps_sinks[kind].option);
	}
	any_plan.sql = psprintf("SELECT pg_catalog.bool_or(%s) FROM profile_stream.streams s WHERE %s", changes, any);
	MemoryContextSwitchTo(old);
}

static Datum
name_of(PsSinkKind kind)
{
	return CStringGetTextDatum(ps_sinks[kind].name);
}

/* The event types of a customer as a JSON array; those beyond MAX_TYPES are left out. */
static char *
event_types_json(const PsChange *change)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '[');
	for (int i = 0; i < change->nevent_types && i < atoi(MAX_TYPES); i++)
	{
		if (i > 0)
			appendStringInfoChar(&json, ',');
		escape_json(&json, change->event_types[i]);
	}
	appendStringInfoChar(&json, ']');
	return json.data;
}

/* The event that was applied last, as a JSON text. "null" takes the place of what is known of one; NULL leaves it. */
static char *
last_event_json(const PsChange *change)
{
	StringInfoData json;

	if (change->last_event == NULL && !change->is_erased)
		return NULL;
	initStringInfo(&json);
	ps_last_event_append(&json, change->last_event);
	return json.data;
}

/* The arguments of a statement that adds changes: ids, event types and last events. */
typedef struct ChangeArrays
{
	PsColumn	ids;
	PsColumn	types;
	PsColumn	last_events;
} ChangeArrays;

static void
init_arrays(ChangeArrays *arrays, int n)
{
	ps_column_init(&arrays->ids, TEXTOID, n);
	ps_column_init(&arrays->types, TEXTOID, n);
	ps_column_init(&arrays->last_events, TEXTOID, n);
}

static void
add_to_arrays(ChangeArrays *arrays, const PsChange *change, bool events_asked)
{
	ps_column_add_text(&arrays->ids, change->customer_id);
	if (!events_asked)
		return;
	ps_column_add_text(&arrays->types, event_types_json(change));
	ps_column_add_text(&arrays->last_events, last_event_json(change));
}

static void
run_with_arrays(PsPlan *plan, const ChangeArrays *arrays, Datum streams)
{
	Datum		args[5] = {ps_column_array(&arrays->ids), ps_column_array(&arrays->types), ps_column_array(&arrays->last_events),
	ps_segment_changes_group(), streams};

	(void) ps_plan_run(plan, args, NULL, SPI_OK_INSERT);
}

/* Adds, for a stream that watches, the changes that it is told of. */
static void
add_watched(const PsChange *changes, int n, const PsWatcher *watcher)
{
	ChangeArrays arrays;

	init_arrays(&arrays, n);
	for (int i = 0; i < n; i++)
		if (changes[i].is_erased || bms_overlap(watcher->names, changes[i].changed))
			add_to_arrays(&arrays, &changes[i], true);
	if (arrays.ids.n > 0)
		run_with_arrays(&add_watched_plan, &arrays, Int32GetDatum(watcher->stream_id));
}

void
ps_outbox_add_changes(const PsChange *changes, int n, const PsWatches *watches)
{
	ChangeArrays arrays;
	PsColumn	watching;
	bool		nobody;
	bool		events_asked;
	int			nwatchers = watches == NULL ? 0 : watches->n;

	/* changes of a rebuild are delivered when it is swapped in */
	if (n == 0 || ps_rebuild_schema_used())
		return;
	if (any_plan.sql == NULL)
		build_any_statement();
	(void) ps_plan_run(&any_plan, NULL, NULL, SPI_OK_SELECT);
	events_asked = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &nobody));
	if (nobody)
		return;
	init_arrays(&arrays, n);
	for (int i = 0; i < n; i++)
		add_to_arrays(&arrays, &changes[i], events_asked);
	ps_column_init(&watching, INT4OID, nwatchers);
	for (int i = 0; i < nwatchers; i++)
		ps_column_add(&watching, Int32GetDatum(watches->watchers[i].stream_id));
	run_with_arrays(&add_plan, &arrays, ps_column_array(&watching));
	for (int i = 0; events_asked && i < nwatchers; i++)
		add_watched(changes, n, &watches->watchers[i]);
}

void
ps_outbox_serve(const char *customer_id)
{
	Datum		args[3] = {CStringGetTextDatum(customer_id), ObjectIdGetDatum(MyDatabaseId), ps_segment_changes_group()};

	(void) ps_plan_run(&serve_plan, args, NULL, SPI_OK_INSERT);
}

static int64
refill_shard(void *args)
{
	return ps_plan_number(&refill_plan, args);
}

int64
ps_outbox_resync(int stream_id, PsSinkKind kind)
{
	Datum		args[3] = {Int32GetDatum(stream_id), name_of(kind), ps_segment_changes_group()};

	if (ps_sinks[kind].content == PS_DELIVERS_DEAD_LETTERS)
		return ps_dead_letter_outbox_resync(stream_id);
	return ps_each_shard(refill_shard, args);
}

int64
ps_outbox_forget_gone(void *arg)
{
	return ps_plan_run(&gone_plan, NULL, NULL, SPI_OK_DELETE);
}

void
ps_outbox_clear(int stream_id)
{
	Datum		args[1] = {Int32GetDatum(stream_id)};

	(void) ps_plan_run(&clear_plan, args, NULL, SPI_OK_DELETE);
	if (!ps_distributed())
		(void) ps_outbox_forget_gone(NULL);
}

void
ps_outbox_flush(void)
{
	XLogRecPtr	end = GetXLogInsertRecPtr();

	/* at the start of a page the position is behind its header, and nothing there could be flushed yet */
	if (XLogSegmentOffset(end, wal_segment_size) == SizeOfXLogLongPHD)
		end -= SizeOfXLogLongPHD;
	else if (end % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		end -= SizeOfXLogShortPHD;
	XLogFlush(end);
}

/*
 * Goes on to the next shard of this node, in a circle that begins with one of them; false: that was the last. Where profiles
 * are not distributed there is one turn.
 */
static bool
next_turn(int first, int *turn)
{
	if (!ps_distributed())
		return (*turn)++ == 0;
	while (*turn < ps_shards_count())
	{
		int			shard = (first + (*turn)++) % ps_shards_count();

		if (!ps_shards_is_here(shard))
			continue;
		ps_shards_use(shard);
		return true;
	}
	return false;
}

/* The last one of a shard's rows that were read. */
static int64
last_in_shard(const PsTakenRows *taken, int shard)
{
	for (int i = 0; taken != NULL && i < taken->n; i++)
		if (taken->shards[i].shard == shard)
			return taken->shards[i].last;
	return 0;
}

void
ps_outbox_move(int stream_id, PsSinkKind kind, int limit, const char *writer, uint64 reads, const PsTakenRows *on_its_way)
{
	static int	next = 0;
	int			first = next;
	Datum		args[5] = {Int32GetDatum(stream_id), name_of(kind), Int64GetDatum(limit), 0, writer == NULL ? 0 : CStringGetTextDatum(writer)};
	uint64		moved = 0;

	if (ps_distributed())
		ps_shard_fence();
	for (int turn = 0; moved < limit && ps_shards_reads() == reads && next_turn(first, &turn);)
	{
		next = ps_shards_used() + 1;
		args[3] = Int64GetDatum(last_in_shard(on_its_way, ps_shards_used()));
		moved += ps_plan_run(&move_plan, args, writer == NULL ? "    n" : NULL, SPI_OK_INSERT);
	}
	ps_shards_use(PS_NO_SHARD);
}

/* Reads the oldest pending rows of the shard in use; returns how many, and the last one. */
static int
read_pending(int stream_id, PsSinkKind kind, int limit, PsPending *pending, int64 *last)
{
	bool		of_changes = ps_sinks[kind].content == PS_DELIVERS_CHANGES;
	bool		in_shard = ps_shards_used() != PS_NO_SHARD;
	PsPlan	   *plan = of_changes ? (in_shard ? &read_changelog_shard_plan : &read_changelog_plan) : (in_shard ? &read_shard_plan : &read_plan);
	Datum		args[3] = {Int32GetDatum(stream_id), name_of(kind), Int64GetDatum(limit)};
	int			n = ps_plan_run(plan, args, NULL, SPI_OK_SELECT);

	*last = 0;
	for (int i = 0; i < n; i++)
	{
		bool		isnull;

		pending[i].customer_id = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		pending[i].version = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
		pending[i].document = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3);
		pending[i].changed_at = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 5, &isnull));
		*last = Max(*last, DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 4, &isnull)));
	}
	SPI_freetuptable(SPI_tuptable);
	return n;
}

int
ps_outbox_read(int stream_id, PsSinkKind kind, int limit, PsPending **pending, PsTakenRows *taken)
{
	int			first = taken->next;
	int			n = 0;

	if (ps_distributed())
		ps_shard_fence();
	*pending = palloc(limit * sizeof(PsPending));
	taken->reads = ps_shards_reads();
	taken->n = 0;
	taken->shards = palloc((ps_distributed() ? ps_shards_count() : 1) * sizeof(struct PsTakenShard));
	for (int turn = 0; n < limit && next_turn(first, &turn);)
	{
		int64		last;
		int			nread = read_pending(stream_id, kind, limit - n, *pending + n, &last);

		if (nread == 0)
			continue;
		n += nread;
		taken->next = ps_shards_used() + 1;
		taken->shards[taken->n++] = (struct PsTakenShard)
		{
			ps_shards_used(), last
		};
	}
	ps_shards_use(PS_NO_SHARD);
	return n;
}

List *
ps_outbox_other_writers(int stream_id, PsSinkKind kind, const char *writer)
{
	Datum		args[3] = {Int32GetDatum(stream_id), name_of(kind), CStringGetTextDatum(writer)};
	List	   *others = NIL;

	ps_shard_fence();
	for (int turn = 0; next_turn(0, &turn);)
	{
		uint64		n;

		(void) ps_shard_offsets_read(stream_id);	/* raises for a part of a shard: rows of the outbox are perhaps of
													 * another part */
		n = ps_plan_run(&other_writers_plan, args, NULL, SPI_OK_SELECT);
		for (uint64 i = 0; i < n; i++)
			others = lappend(others, ps_plan_text(i, 1));
		SPI_freetuptable(SPI_tuptable);
	}
	ps_shards_use(PS_NO_SHARD);
	return others;
}

void
ps_outbox_take_over(int stream_id, PsSinkKind kind, const char *writer)
{
	Datum		args[3] = {Int32GetDatum(stream_id), name_of(kind), CStringGetTextDatum(writer)};

	for (int turn = 0; next_turn(0, &turn);)
		(void) ps_plan_run(&take_over_plan, args, NULL, SPI_OK_UPDATE);
	ps_shards_use(PS_NO_SHARD);
}

int64
ps_outbox_backlog(int stream_id, const char *sink, TimestampTz *since)
{
	Datum		args[2] = {Int32GetDatum(stream_id), CStringGetTextDatum(sink)};
	int64		customers = 0;

	TIMESTAMP_NOBEGIN(*since);
	for (int turn = 0; next_turn(0, &turn);)
	{
		bool		isnull;
		Datum		oldest;

		(void) ps_plan_read(&backlog_plan, args);
		customers += DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		oldest = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
		if (!isnull && (TIMESTAMP_IS_NOBEGIN(*since) || DatumGetTimestampTz(oldest) < *since))
			*since = DatumGetTimestampTz(oldest);
		SPI_freetuptable(SPI_tuptable);
	}
	ps_shards_use(PS_NO_SHARD);
	return customers;
}

void
ps_outbox_delivered(int stream_id, PsSinkKind kind, const PsTakenRows *taken)
{
	Datum		args[3] = {Int32GetDatum(stream_id), name_of(kind)};

	if (ps_distributed())
		ps_shard_fence();
	for (int i = 0; taken->reads == ps_shards_reads() && i < taken->n; i++)
	{
		ps_shards_use(taken->shards[i].shard);
		args[2] = Int64GetDatum(taken->shards[i].last);
		(void) ps_plan_run(&delivered_plan, args, NULL, SPI_OK_DELETE);
	}
	ps_shards_use(PS_NO_SHARD);
}

void
ps_outbox_count(int stream_id, PsSinkKind kind, int64 delivered, int64 refused)
{
	Datum		args[4] = {Int32GetDatum(stream_id), name_of(kind), Int64GetDatum(delivered), Int64GetDatum(refused)};

	(void) ps_plan_run(&count_plan, args, NULL, SPI_OK_INSERT);
}

void
ps_outbox_change_state(int stream_id, PsSinkKind kind, const PsState *state, bool news, PsStateChange *change)
{
	Datum		args[7] = {Int32GetDatum(stream_id), name_of(kind), CStringGetTextDatum(ps_state_names[state->state])};
	char		nulls[7] = {' ', ' ', ' ', state->error ? ' ' : 'n', state->hint ? ' ' : 'n', state->next_attempt_ms < 0 ? 'n' : ' ', ' '};

	ps_state_log_check();
	args[3] = state->error ? CStringGetTextDatum(state->error) : (Datum) 0;
	args[4] = state->hint ? CStringGetTextDatum(state->hint) : (Datum) 0;
	args[5] = Int64GetDatum(state->next_attempt_ms);
	args[6] = BoolGetDatum(news);
	ps_state_log_finish(ps_plan_run(&state_plan, args, nulls, SPI_OK_SELECT), change);
}

void
ps_outbox_set_state(int stream_id, PsSinkKind kind, PsStreamState state, const char *error,
					const char *hint, int64 next_attempt_ms)
{
	PsState		now = {state, error, hint, next_attempt_ms};
	PsStateChange change;

	ps_outbox_change_state(stream_id, kind, &now, false, &change);
}

bool
ps_outbox_has_state(int stream_id, PsSinkKind kind)
{
	Datum		args[2] = {Int32GetDatum(stream_id), CStringGetTextDatum(ps_sinks[kind].name)};

	return ps_plan_run(&known_plan, args, NULL, SPI_OK_SELECT) > 0;
}
