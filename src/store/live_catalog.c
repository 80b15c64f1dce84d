/*
 * live_catalog.c
 *	  The SQL of live segments.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/confirmed_code.h"
#include "store/live_catalog.h"
#include "store/outbox.h"
#include "store/plan.h"
#include "store/segment_catalog.h"
#include "store/shards.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static PsPlan records_plan = {
	.sql = "SELECT s.segment_id, s.name, s.predicate, s.owner, (pg_catalog.date_part('epoch', s.quiet_period) * 1000000)::int8, s.filled_to IS NOT NULL"
	" FROM profile_stream_internal.segments s WHERE s.evaluate = 'live' AND s.blocked_at IS NULL AND " PS_IS_CONFIRMED("segment", "s.name")
	" AND EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = s.owner) ORDER BY s.owner, s.segment_id",
	.latest = true
};

static PsPlan leave_plan = {
	"DELETE FROM profile_stream.segment_members m USING ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS n(customer_id, segment)"
	" WHERE m.segment = n.segment AND m.customer_id = n.customer_id",
	2, {TEXTARRAYOID, TEXTARRAYOID}
};

/* a segment that was dropped meanwhile is left out, and none is dropped meanwhile */
static PsPlan enter_plan = {
	"INSERT INTO profile_stream.segment_members (segment, customer_id, entered_at)"
	" SELECT s.name, n.customer_id, $3 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS n(customer_id, segment)"
	" JOIN profile_stream_internal.segments s ON s.name = n.segment FOR KEY SHARE OF s ON CONFLICT DO NOTHING",
	3, {TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID}
};

static PsPlan quiet_plan = {
	"SELECT n.ordinality::int4 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) WITH ORDINALITY"
	" AS n(customer_id, segment, quiet_us, ordinality) WHERE EXISTS (SELECT FROM profile_stream.segment_changes c"
	" WHERE c.customer_id = n.customer_id AND c.kind = 'rule' AND c.to_segment = n.segment AND NOT c.quiet"
	" AND c.changed_at > $4 - n.quiet_us * '1 microsecond'::interval)",
	4, {TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID}
};

static PsPlan changes_plan = {
	PS_SEGMENT_CHANGES_TOLD("INSERT INTO profile_stream.segment_changes (change_id, customer_id, kind, from_segment, to_segment, changed_at, quiet, event_id, event_at)"
							" SELECT " PS_CHANGE_ID("$8") ", n.customer_id, 'rule', n.from_segment, n.to_segment, $7, n.quiet, n.event_id, n.event_at"
							" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5),"
							" pg_catalog.unnest($6)) AS n(customer_id, from_segment, to_segment, quiet, event_id, event_at)", "$8"),
	8, {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BOOLARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZOID, INT8OID}
};

static PsPlan members_plan = {
	.sql = "SELECT m.customer_id, m.segment FROM pg_catalog.unnest($1) AS n(customer_id)"
	" JOIN profile_stream.segment_members m ON m.customer_id = n.customer_id",
	.nargs = 1,.argtypes = {TEXTARRAYOID},.latest = true
};

static PsPlan add_checks_plan = {
	"INSERT INTO profile_stream_internal.segment_checks (due_at, customer_id)"
	" SELECT n.due_at, n.customer_id FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS n(due_at, customer_id) ON CONFLICT DO NOTHING",
	2, {TIMESTAMPTZARRAYOID, TEXTARRAYOID}
};

static PsPlan remove_checks_plan = {
	"DELETE FROM profile_stream_internal.segment_checks c"
	" USING ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS n(due_at, customer_id)"
	" WHERE c.due_at = n.due_at AND c.customer_id = n.customer_id",
	2, {TIMESTAMPTZARRAYOID, TEXTARRAYOID}
};

static PsPlan due_checks_plan = {
	"SELECT c.due_at, c.customer_id FROM profile_stream_internal.segment_checks c WHERE c.due_at <= $1 ORDER BY c.due_at, c.customer_id LIMIT $2",
	2, {TIMESTAMPTZOID, INT8OID}
};

static PsPlan after_plan = {
	"SELECT p.customer_id FROM profile_stream.materialized_profiles p WHERE p.customer_id > $1 ORDER BY p.customer_id LIMIT $2",
	2, {TEXTOID, INT8OID}
};

static PsPlan filling_plan = {
	"SELECT pg_catalog.min(s.filled_to), pg_catalog.max(s.segment_id) FROM profile_stream_internal.segments s"
	" WHERE s.evaluate = 'live' AND s.blocked_at IS NULL AND s.filled_to IS NOT NULL", 0, {0}
};

static PsPlan fill_plan = {
	"UPDATE profile_stream_internal.segments s SET filled_to = $2,"
	" refreshed_at = CASE WHEN $2 IS NULL THEN pg_catalog.clock_timestamp() ELSE s.refreshed_at END"
	" WHERE s.evaluate = 'live' AND s.blocked_at IS NULL AND s.segment_id <= $3 AND s.filled_to >= $1 AND ($2 IS NULL OR s.filled_to < $2)",
	3, {TEXTOID, TEXTOID, INT8OID}
};

static PsPlan shard_filling_plan = {
	.sql = "SELECT f.filled_to, s.last_id, COALESCE(f.node = $2 AND f.segment_id > 0, false), COALESCE(f.node = $2 AND f.segment_id >= s.last_id, false)"
	" FROM (SELECT pg_catalog.max(s.segment_id) AS last_id"
	" FROM profile_stream_internal.segments s WHERE s.evaluate = 'live' AND s.blocked_at IS NULL) s"
	" LEFT JOIN profile_stream_internal.segment_fills f ON f.slot = $1",
	.nargs = 2,.argtypes = {TEXTOID, INT4OID},.latest = true
};

static PsPlan shard_begin_plan = {
	"INSERT INTO profile_stream_internal.segment_fills AS f (slot, node, segment_id, filled_to) VALUES ($1, $2, $3, '')"
	" ON CONFLICT (slot) DO UPDATE SET node = $2, segment_id = $3, filled_to = '' WHERE f.node <> $2 OR f.segment_id < $3",
	3, {TEXTOID, INT4OID, INT4OID}
};

static PsPlan shard_fill_plan = {
	"UPDATE profile_stream_internal.segment_fills f SET filled_to = $4 WHERE f.slot = $1 AND f.node = $2 AND f.segment_id = $3 AND f.filled_to = $5",
	5, {TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTOID}
};

static PsPlan shard_known_plan = {
	.sql = "SELECT f.node = $2 AND f.filled_to IS NULL, f.node <> $2 FROM profile_stream_internal.segment_fills f WHERE f.slot = $1",
	.nargs = 2,.argtypes = {TEXTOID, INT4OID},.latest = true
};

/* of segments that were dropped while their shard was on another node */
static PsPlan strangers_plan = {
	"DELETE FROM profile_stream.segment_members m WHERE NOT EXISTS (SELECT FROM profile_stream_internal.segments s WHERE s.name = m.segment)", 0, {0}
};

static PsPlan gone_plan = {
	"INSERT INTO profile_stream_internal.segment_checks (due_at, customer_id)"
	" SELECT DISTINCT pg_catalog.now(), m.customer_id FROM profile_stream.segment_members m WHERE NOT EXISTS"
	" (SELECT FROM profile_stream.materialized_profiles p WHERE p.customer_id = m.customer_id) ON CONFLICT DO NOTHING", 0, {0}
};

static Datum
live_catalog_get(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

List *
ps_live_records(void)
{
	uint64		n = ps_plan_run(&records_plan, NULL, NULL, SPI_OK_SELECT);
	List	   *records = NIL;
	bool		isnull;

	for (uint64 i = 0; i < n; i++)
	{
		PsLiveRecord *record = palloc(sizeof(PsLiveRecord));

		record->id = (uint32) DatumGetInt32(live_catalog_get(i, 1, &isnull));
		record->name = ps_plan_text(i, 2);
		record->predicate = ps_plan_text(i, 3);
		record->owner = DatumGetObjectId(live_catalog_get(i, 4, &isnull));
		record->quiet_us = DatumGetInt64(live_catalog_get(i, 5, &isnull));
		record->is_filling = DatumGetBool(live_catalog_get(i, 6, &isnull));
		records = lappend(records, record);
	}
	SPI_freetuptable(SPI_tuptable);
	return records;
}

/* Marks the moves that enter a segment again within its quiet period. */
static void
find_quiet(PsLiveMove *moves, int n, TimestampTz at)
{
	PsColumn	columns[3];
	Datum		args[4];
	int		   *asked = palloc(n * sizeof(int));
	uint64		found;
	bool		isnull;

	ps_column_init(&columns[0], TEXTOID, n);
	ps_column_init(&columns[1], TEXTOID, n);
	ps_column_init(&columns[2], INT8OID, n);
	for (int i = 0; i < n; i++)
	{
		moves[i].is_quiet = false;
		if (!moves[i].enters || moves[i].quiet_us == 0)
			continue;
		asked[columns[0].n] = i;
		ps_column_add_text(&columns[0], moves[i].customer_id);
		ps_column_add_text(&columns[1], moves[i].segment);
		ps_column_add(&columns[2], Int64GetDatum(moves[i].quiet_us));
	}
	if (columns[0].n == 0)
		return;
	for (int c = 0; c < lengthof(columns); c++)
		args[c] = ps_column_array(&columns[c]);
	args[3] = TimestampTzGetDatum(at);
	found = ps_plan_run(&quiet_plan, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < found; i++)
		moves[asked[DatumGetInt32(live_catalog_get(i, 1, &isnull)) - 1]].is_quiet = true;
	SPI_freetuptable(SPI_tuptable);
}

/* Changes memberships of those who enter, or of those who leave. */
static void
write_members(const PsLiveMove *moves, int n, bool enters, TimestampTz at)
{
	PsColumn	columns[2];
	Datum		args[3];

	ps_column_init(&columns[0], TEXTOID, n);
	ps_column_init(&columns[1], TEXTOID, n);
	for (int i = 0; i < n; i++)
	{
		if (moves[i].enters != enters)
			continue;
		ps_column_add_text(&columns[0], moves[i].customer_id);
		ps_column_add_text(&columns[1], moves[i].segment);
	}
	if (columns[0].n == 0)
		return;
	args[0] = ps_column_array(&columns[0]);
	args[1] = ps_column_array(&columns[1]);
	args[2] = TimestampTzGetDatum(at);
	(void) ps_plan_run(enters ? &enter_plan : &leave_plan, args, NULL, enters ? SPI_OK_INSERT : SPI_OK_DELETE);
}

void
ps_live_moves_write(PsLiveMove *moves, int n, TimestampTz at)
{
	static const Oid types[6] = {TEXTOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, TIMESTAMPTZOID};
	PsColumn	columns[6];
	Datum		args[8];

	if (n == 0)
		return;
	write_members(moves, n, false, at);
	write_members(moves, n, true, at);
	find_quiet(moves, n, at);
	for (int c = 0; c < lengthof(columns); c++)
		ps_column_init(&columns[c], types[c], n);
	for (int i = 0; i < n; i++)
	{
		ps_column_add_text(&columns[0], moves[i].customer_id);
		ps_column_add_text(&columns[1], moves[i].enters ? NULL : moves[i].segment);
		ps_column_add_text(&columns[2], moves[i].enters ? moves[i].segment : NULL);
		ps_column_add(&columns[3], BoolGetDatum(moves[i].is_quiet));
		ps_column_add_text(&columns[4], moves[i].event == NULL ? NULL : moves[i].event->event_id);
		ps_column_add_time(&columns[5], moves[i].event == NULL ? DT_NOBEGIN : moves[i].event->timestamp);
	}
	for (int c = 0; c < lengthof(columns); c++)
		args[c] = ps_column_array(&columns[c]);
	args[6] = TimestampTzGetDatum(at);
	args[7] = ps_segment_changes_group();
	(void) ps_plan_run(&changes_plan, args, NULL, SPI_OK_INSERT);
}

void
ps_live_members_read(const char **customer_ids, int n, PsLiveMemberNote note, void *arg)
{
	PsColumn	ids;
	Datum		args[1];
	uint64		found;

	ps_column_init(&ids, TEXTOID, n);
	for (int i = 0; i < n; i++)
		ps_column_add_text(&ids, customer_ids[i]);
	args[0] = ps_column_array(&ids);
	found = ps_plan_run(&members_plan, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < found; i++)
		note(arg, ps_plan_text(i, 1), ps_plan_text(i, 2));
	SPI_freetuptable(SPI_tuptable);
}

static void
run_checks(PsPlan *plan, const PsLiveCheck *checks, int n, int expected)
{
	PsColumn	columns[2];
	Datum		args[2];

	if (n == 0)
		return;
	ps_column_init(&columns[0], TIMESTAMPTZOID, n);
	ps_column_init(&columns[1], TEXTOID, n);
	for (int i = 0; i < n; i++)
	{
		ps_column_add(&columns[0], TimestampTzGetDatum(checks[i].due_at));
		ps_column_add_text(&columns[1], checks[i].customer_id);
	}
	args[0] = ps_column_array(&columns[0]);
	args[1] = ps_column_array(&columns[1]);
	(void) ps_plan_run(plan, args, NULL, expected);
}

void
ps_live_checks_add(const PsLiveCheck *checks, int n)
{
	run_checks(&add_checks_plan, checks, n, SPI_OK_INSERT);
}

void
ps_live_checks_remove(const PsLiveCheck *checks, int n)
{
	run_checks(&remove_checks_plan, checks, n, SPI_OK_DELETE);
}

int
ps_live_checks_due(TimestampTz at, int limit, PsLiveCheck *checks)
{
	Datum		args[2] = {TimestampTzGetDatum(at), Int64GetDatum(limit)};
	int			found = (int) ps_plan_run(&due_checks_plan, args, NULL, SPI_OK_SELECT);
	bool		isnull;

	for (int i = 0; i < found; i++)
	{
		checks[i].due_at = DatumGetTimestampTz(live_catalog_get(i, 1, &isnull));
		checks[i].customer_id = ps_plan_text(i, 2);
	}
	SPI_freetuptable(SPI_tuptable);
	return found;
}

int
ps_live_customers_after(const char *after, int limit, const char **customer_ids)
{
	Datum		args[2] = {CStringGetTextDatum(after), Int64GetDatum(limit)};
	int			found = (int) ps_plan_run(&after_plan, args, NULL, SPI_OK_SELECT);

	for (int i = 0; i < found; i++)
		customer_ids[i] = ps_plan_text(i, 1);
	SPI_freetuptable(SPI_tuptable);
	return found;
}

/* Lets the segments of this node see the customers of the shard in use from the first one on. */
static void
begin_shard(uint32 last_id)
{
	Datum		args[3] = {CStringGetTextDatum(ps_shards_slot(ps_shards_used())), Int32GetDatum(ps_shards_group()), Int32GetDatum(last_id)};

	(void) ps_plan_run(&shard_begin_plan, args, NULL, SPI_OK_INSERT);
}

void
ps_live_remove_strangers(void)
{
	(void) ps_plan_run(&strangers_plan, NULL, NULL, SPI_OK_DELETE);
}

bool
ps_live_shard_is_known(void)
{
	Datum		args[2] = {CStringGetTextDatum(ps_shards_slot(ps_shards_used())), Int32GetDatum(ps_shards_group())};
	bool		found = ps_plan_run(&shard_known_plan, args, NULL, SPI_OK_SELECT) > 0;
	bool		isnull;
	bool		known = found && DatumGetBool(live_catalog_get(0, 1, &isnull));
	bool		of_another = found && DatumGetBool(live_catalog_get(0, 2, &isnull));

	SPI_freetuptable(SPI_tuptable);
	/* before the first row is written here: a shard that goes back must not look as if it had never left */
	if (of_another)
		begin_shard(0);
	return known;
}

static bool
shard_filling(PsLiveFilling *filling)
{
	Datum		args[2] = {CStringGetTextDatum(ps_shards_slot(ps_shards_used())), Int32GetDatum(ps_shards_group())};
	bool		isnull;
	bool		is_ours;
	bool		has_begun;

	(void) ps_plan_run(&shard_filling_plan, args, NULL, SPI_OK_SELECT);
	filling->from = ps_plan_text(0, 1);
	filling->last_id = (uint32) DatumGetInt32(live_catalog_get(0, 2, &isnull));
	has_begun = isnull || DatumGetBool(live_catalog_get(0, 4, &isnull));
	is_ours = DatumGetBool(live_catalog_get(0, 3, &isnull));
	SPI_freetuptable(SPI_tuptable);
	if (!has_begun)
	{
		if (!is_ours)
			ps_live_remove_strangers();
		begin_shard(filling->last_id);
		filling->from = "";
	}
	return filling->from != NULL;
}

bool
ps_live_filling(PsLiveFilling *filling)
{
	bool		isnull;

	if (ps_shards_used() != PS_NO_SHARD)
		return shard_filling(filling);
	(void) ps_plan_run(&filling_plan, NULL, NULL, SPI_OK_SELECT);
	filling->from = ps_plan_text(0, 1);
	filling->last_id = (uint32) DatumGetInt32(live_catalog_get(0, 2, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return filling->from != NULL;
}

static void
note_shard(const PsLiveFilling *filling, const char *to)
{
	Datum		args[5] = {CStringGetTextDatum(ps_shards_slot(ps_shards_used())), Int32GetDatum(ps_shards_group()), Int32GetDatum(filling->last_id),
	to ? CStringGetTextDatum(to) : (Datum) 0, CStringGetTextDatum(filling->from)};

	(void) ps_plan_run(&shard_fill_plan, args, to ? NULL : "   n ", SPI_OK_UPDATE);
}

void
ps_live_fill_note(const PsLiveFilling *filling, const char *to)
{
	Datum		args[3] = {CStringGetTextDatum(filling->from), to ? CStringGetTextDatum(to) : (Datum) 0, Int64GetDatum(filling->last_id)};

	if (ps_shards_used() != PS_NO_SHARD)
		note_shard(filling, to);
	else
		(void) ps_definitions_write(&fill_plan, args, to ? NULL : " n ", SPI_OK_UPDATE);
}

void
ps_live_fill_end(const PsLiveFilling *filling)
{
	ps_live_fill_note(filling, NULL);
	/* so that every process stops asking whether there is something to fill */
	if (ps_shards_used() == PS_NO_SHARD)
		ps_segments_tell();
}

void
ps_live_checks_add_gone(void)
{
	(void) ps_plan_run(&gone_plan, NULL, NULL, SPI_OK_INSERT);
}
