/*
 * segment_catalog.c
 *	  The SQL of segments by rule and of segment_changes.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "store/confirmed_code.h"
#include "store/outbox.h"
#include "store/owner.h"
#include "store/plan.h"
#include "store/segment_catalog.h"
#include "store/shard_fence.h"
#include "store/shard_names.h"
#include "store/shards.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static PsPlan create_plan = {
	"INSERT INTO profile_stream_internal.segments (name, predicate, owner, evaluate, quiet_period, filled_to, created_at)"
	" VALUES ($1, $2, $3, $4, $5, CASE WHEN $4 = 'live' THEN '' END, pg_catalog.now()) ON CONFLICT (name) DO NOTHING",
	5, {TEXTOID, TEXTOID, REGROLEOID, TEXTOID, INTERVALOID}
};

static PsPlan alter_plan = {
	"UPDATE profile_stream_internal.segments s SET predicate = $2, owner = $3, evaluate = $4, quiet_period = $5 WHERE s.name = $1",
	5, {TEXTOID, TEXTOID, REGROLEOID, TEXTOID, INTERVALOID}
};

/* a new number: what rows of profiles know of the old one counts no more */
static PsPlan renew_plan = {
	"UPDATE profile_stream_internal.segments s SET segment_id = pg_catalog.nextval('profile_stream_internal.segments_segment_id_seq'::pg_catalog.regclass)::int4,"
	" filled_to = CASE WHEN s.evaluate = 'live' THEN '' END, blocked_at = NULL, error = NULL, error_at = NULL, failing_since = NULL WHERE s.name = $1",
	1, {TEXTOID}
};

static PsPlan refill_plan = {
	"UPDATE profile_stream_internal.segments s SET filled_to = '' WHERE s.evaluate = 'live' AND s.blocked_at IS NULL", 0, {0}
};

static PsPlan block_plan = {
	"UPDATE profile_stream_internal.segments s SET blocked_at = COALESCE(s.blocked_at, pg_catalog.clock_timestamp()), error = $2,"
	" error_at = pg_catalog.clock_timestamp(), failing_since = COALESCE(s.failing_since, pg_catalog.clock_timestamp()) WHERE s.name = $1",
	2, {TEXTOID, TEXTOID}
};

static PsPlan drop_plan = {"DELETE FROM profile_stream_internal.segments s WHERE s.name = $1", 1, {TEXTOID}};

static PsPlan drop_members_plan = {"DELETE FROM profile_stream.segment_members m WHERE m.segment = $1", 1, {TEXTOID},.latest = true};

/* without live segments nobody is looked at any more */
static PsPlan clear_plan = {
	"DELETE FROM profile_stream_internal.segment_checks c WHERE NOT EXISTS"
	" (SELECT FROM profile_stream_internal.segments s WHERE s.evaluate = 'live')", 0, {0}
};

static PsPlan find_plan = {
	"SELECT s.name, s.predicate, s.owner, " PS_IS_CONFIRMED("segment", "s.name") ", s.evaluate = 'live', s.blocked_at IS NOT NULL, s.quiet_period"
	" FROM profile_stream_internal.segments s WHERE $1 IS NULL OR s.name = $1 ORDER BY s.error_at NULLS FIRST, s.name",
	1, {TEXTOID}
};

static PsPlan note_plan = {
	"UPDATE profile_stream_internal.segments s SET refreshed_at = CASE WHEN $2 IS NULL THEN pg_catalog.clock_timestamp() ELSE s.refreshed_at END,"
	" error = $2, error_at = CASE WHEN $2 IS NOT NULL THEN pg_catalog.clock_timestamp() END,"
	" failing_since = CASE WHEN $2 IS NOT NULL THEN COALESCE(s.failing_since, pg_catalog.clock_timestamp()) END WHERE s.name = $1",
	2, {TEXTOID, TEXTOID}
};

static PsPlan range_plan = {
	"SELECT x.customer_id FROM profile_stream.materialized_profiles x WHERE x.customer_id > $1"
	" ORDER BY x.customer_id OFFSET $2 - 1 LIMIT 1",
	2, {TEXTOID, INT8OID}
};

#define IN_RANGE(id) id " > $1 AND ($2 IS NULL OR " id " <= $2)"

static PsPlan members_plan = {
	"SELECT m.customer_id FROM profile_stream.segment_members m WHERE m.segment = $3 AND " IN_RANGE("m.customer_id") " ORDER BY m.customer_id",
	3, {TEXTOID, TEXTOID, TEXTOID}
};

static PsPlan enter_plan = {
	"INSERT INTO profile_stream.segment_members (segment, customer_id, entered_at)"
	" SELECT s.name, p.customer_id, $3 FROM profile_stream_internal.segments s CROSS JOIN pg_catalog.unnest($2) AS n(customer_id)"
	" JOIN profile_stream.materialized_profiles p ON p.customer_id = n.customer_id WHERE s.name = $1 FOR KEY SHARE OF s"
	" ON CONFLICT DO NOTHING RETURNING customer_id",
	3, {TEXTOID, TEXTARRAYOID, TIMESTAMPTZOID}
};

static PsPlan leave_plan = {
	"DELETE FROM profile_stream.segment_members m USING pg_catalog.unnest($2) AS n(customer_id)"
	" WHERE m.segment = $1 AND m.customer_id = n.customer_id RETURNING m.customer_id",
	2, {TEXTOID, TEXTARRAYOID}
};

static PsPlan add_changes_plan = {
	PS_SEGMENT_CHANGES_TOLD("INSERT INTO profile_stream.segment_changes (change_id, customer_id, kind, from_segment, to_segment, changed_at)"
							" SELECT " PS_CHANGE_ID("$6") ", n.customer_id, $4, n.from_segment, n.to_segment, $5 FROM ROWS FROM"
							" (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS n(customer_id, from_segment, to_segment)", "$6"),
	6, {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID, INT8OID}
};

static PsPlan discard_plan = {
	"DELETE FROM profile_stream.segment_changes c WHERE c.change_id = ANY (ARRAY("
	" SELECT x.change_id FROM profile_stream.segment_changes x WHERE x.changed_at < LEAST($1, pg_catalog.clock_timestamp()"
	" - (SELECT pg_catalog.max(s.quiet_period) FROM profile_stream_internal.segments s)) ORDER BY x.changed_at LIMIT $2))",
	2, {TIMESTAMPTZOID, INT8OID}
};

/* A predicate is parsed alone, behind SELECT, and evaluated in a statement. */
#define SELECT_BEGIN "SELECT "
#define MATCHES "SELECT pg_catalog.array_agg(customer_id ORDER BY customer_id) FROM %s WHERE " IN_RANGE("customer_id") " AND (%s\n)"

static void
get_arguments(const PsSegment *segment, Datum *args)
{
	args[0] = CStringGetTextDatum(segment->name);
	args[1] = CStringGetTextDatum(segment->predicate);
	args[2] = ObjectIdGetDatum(segment->owner);
	args[3] = CStringGetTextDatum(segment->is_live ? "live" : "batch");
	args[4] = IntervalPGetDatum(segment->quiet_period);
}

void
ps_segments_tell(void)
{
	CacheInvalidateRelcacheByRelid(ps_own_table(false, "segments"));
}

bool
ps_segment_create(const PsSegment *segment)
{
	Datum		args[5];

	get_arguments(segment, args);
	if (ps_definitions_write(&create_plan, args, NULL, SPI_OK_INSERT) == 0)
		return false;
	ps_confirm("segment", segment->name);
	ps_segments_tell();
	return true;
}

void
ps_segment_alter(const PsSegment *segment)
{
	Datum		args[5];

	get_arguments(segment, args);
	(void) ps_definitions_write(&alter_plan, args, NULL, SPI_OK_UPDATE);
	ps_confirm("segment", segment->name);
	ps_segment_renew(segment->name);
}

void
ps_segment_renew(const char *name)
{
	Datum		args[1] = {name ? CStringGetTextDatum(name) : (Datum) 0};

	(void) ps_definitions_write(name ? &renew_plan : &refill_plan, args, NULL, SPI_OK_UPDATE);
	ps_segments_tell();
}

void
ps_segment_block(const char *name, const char *error)
{
	Datum		args[2] = {CStringGetTextDatum(name), CStringGetTextDatum(error)};

	(void) ps_definitions_write(&block_plan, args, NULL, SPI_OK_UPDATE);
	ps_segments_tell();
	ereport(WARNING,
			(errcode(ERRCODE_DATA_EXCEPTION),
			 errmsg("live segment \"%s\" is blocked: %s", name, error),
			 errhint("Its members stay as they are. Correct the predicate with alter_segment(), or the data, and call refresh_segments().")));
}

/* Who enters at the same time has locked the row of the segment, which therefore goes first. */
static int64
drop_members(void *args)
{
	int64		dropped;

	PushActiveSnapshot(GetLatestSnapshot());
	(void) ps_plan_run(&clear_plan, NULL, NULL, SPI_OK_DELETE);
	dropped = ps_plan_run(&drop_members_plan, args, NULL, SPI_OK_DELETE);
	PopActiveSnapshot();
	return dropped;
}

void
ps_segment_drop(const char *name)
{
	Datum		args[1] = {CStringGetTextDatum(name)};

	(void) ps_plan_run(&drop_plan, args, NULL, SPI_OK_DELETE);
	(void) ps_each_shard(drop_members, args);
	ps_segments_tell();
}

List *
ps_segments_find(const char *name)
{
	Datum		args[1] = {name ? CStringGetTextDatum(name) : (Datum) 0};
	uint64		n = ps_plan_run(&find_plan, args, name ? " " : "n", SPI_OK_SELECT);
	List	   *segments = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		PsSegment  *segment = palloc(sizeof(PsSegment));
		bool		isnull;

		segment->name = ps_plan_text(i, 1);
		segment->predicate = ps_plan_text(i, 2);
		segment->owner = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &isnull));
		segment->confirmed = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 4, &isnull));
		segment->is_live = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 5, &isnull));
		segment->is_blocked = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 6, &isnull));
		segment->quiet_period = palloc(sizeof(Interval));
		*segment->quiet_period = *DatumGetIntervalP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 7, &isnull));
		segments = lappend(segments, segment);
	}
	SPI_freetuptable(SPI_tuptable);
	return segments;
}

void
ps_segment_note(const char *name, const char *error)
{
	Datum		args[2] = {CStringGetTextDatum(name), error ? CStringGetTextDatum(error) : (Datum) 0};

	(void) ps_plan_run(&note_plan, args, error ? "  " : " n", SPI_OK_UPDATE);
}

char *
ps_segments_range(const char *after, int limit)
{
	Datum		args[2] = {CStringGetTextDatum(after), Int64GetDatum(limit)};
	char	   *upto = NULL;

	if (ps_plan_run(&range_plan, args, NULL, SPI_OK_SELECT) > 0)
		upto = ps_plan_text(0, 1);
	SPI_freetuptable(SPI_tuptable);
	return upto;
}

/* Removes the statement and the position from an error: the caller has written only the predicate. */
static void
hide_statement(void *arg)
{
	errposition(0);
	internalerrposition(0);
	internalerrquery(NULL);
	errcontext("predicate of a segment, a condition on the view profile_stream.profiles");
}

/* Whether a statement is SELECT with one expression and nothing else. */
static bool
is_one_expression(const char *sql)
{
	List	   *statements = raw_parser(sql, RAW_PARSE_DEFAULT);
	SelectStmt *select;
	SelectStmt	bare = {.type = T_SelectStmt};
	ResTarget  *target;

	if (list_length(statements) != 1)
		return false;
	select = (SelectStmt *) linitial_node(RawStmt, statements)->stmt;
	if (!IsA(select, SelectStmt) || list_length(select->targetList) != 1)
		return false;
	target = linitial_node(ResTarget, select->targetList);
	bare.targetList = select->targetList;
	/* LIMIT ALL sets no other field */
	bare.limitOption = select->limitOption;
	return equal(select, &bare) && target->name == NULL && target->indirection == NIL;
}

/*
 * The text must be one expression alone, so that its parentheses are in pairs. Put
 * in parentheses it must be one too: then no comment can hide the closing one.
 */
const char *
ps_segment_check(const char *predicate)
{
	ErrorContextCallback callback = {error_context_stack, hide_statement, NULL};
	bool		is_one;

	error_context_stack = &callback;
	is_one = is_one_expression(psprintf(SELECT_BEGIN "%s\n", predicate)) &&
		is_one_expression(psprintf(SELECT_BEGIN "(%s\n)", predicate));
	error_context_stack = callback.previous;
	return is_one ? NULL : "a predicate must be one expression";
}

/* The definition of the view is read in place of the view, so that nothing else asks for the right to read it. */
static void
check_may_read(void)
{
	static const char *const relations[] = {"profiles", "materialized_profiles"};

	for (int i = 0; i < lengthof(relations); i++)
		if (pg_class_aclcheck(get_relname_relid(relations[i], ps_own_schema(false)), GetUserId(), ACL_SELECT) != ACLCHECK_OK)
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("role \"%s\" has no right to read profile_stream.%s", GetUserNameFromId(GetUserId(), false), relations[i]),
					 errhint("Grant it profile_stream_reader, or SELECT of the whole relation.")));
}

Datum
ps_segment_matches(const char *predicate, const char *after, const char *upto)
{
	MemoryContext caller = CurrentMemoryContext;
	static Oid	types[2] = {TEXTOID, TEXTOID};
	Datum		args[2] = {CStringGetTextDatum(after), upto ? CStringGetTextDatum(upto) : (Datum) 0};
	Datum		members;
	bool		isnull;
	const char *wrong = ps_segment_check(predicate);
	ErrorContextCallback callback = {error_context_stack, hide_statement, NULL};
	int			result;

	if (ps_shards_used() != PS_NO_SHARD)
		check_may_read();
	/* the row may have been changed since create_segment() checked it */
	if (wrong != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("%s", wrong)));
	error_context_stack = &callback;
	result = SPI_execute_with_args(psprintf(MATCHES, ps_shard_names_profiles(), predicate), 2, types, args, upto ? NULL : " n", true, 0);
	error_context_stack = callback.previous;
	if (result != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "unexpected result %s of a predicate", SPI_result_code_string(result));
	MemoryContextSwitchTo(caller);
	members = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	members = isnull ? PointerGetDatum(construct_empty_array(TEXTOID)) : datumCopy(members, false, -1);
	SPI_freetuptable(SPI_tuptable);
	return members;
}

static bool
has_subquery(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	return IsA(node, SubLink) || raw_expression_tree_walker(node, has_subquery, arg);
}

/*
 * Each node evaluates a predicate on its own shards, one after the other. A subquery on profiles would ask all nodes
 * each time, in a transaction that must not span them, and one on a local table would see another one on each node.
 */
static void
check_on_shards(const char *predicate)
{
	List	   *statements = raw_parser(psprintf(SELECT_BEGIN "(%s\n)", predicate), RAW_PARSE_DEFAULT);

	if (has_subquery((Node *) linitial_node(RawStmt, statements)->stmt, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a predicate on distributed profiles cannot have a subquery"),
				 errhint("Map what it needs into an attribute, or make a metric of it.")));
	check_may_read();
}

/* The first shard that is here, or none. */
static int
first_here(void)
{
	ps_shard_fence();
	for (int shard = 0; shard < ps_shards_count(); shard++)
		if (ps_shards_is_here(shard))
			return shard;
	return PS_NO_SHARD;
}

/* Without a shard to try it on, names and types are looked up: rights of roles are the same on all nodes. */
static void
try_without_shard(const char *predicate)
{
	static Oid	types[2] = {TEXTOID, TEXTOID};
	ErrorContextCallback callback = {error_context_stack, hide_statement, NULL};

	error_context_stack = &callback;
	if (SPI_prepare(psprintf(MATCHES, ps_shard_names_profiles(), predicate), 2, types) == NULL)
		elog(ERROR, "could not prepare a predicate: %s", SPI_result_code_string(SPI_result));
	error_context_stack = callback.previous;
}

static void
try_on_shard(const char *predicate, int shard)
{
	int			before = ps_shards_used();

	PG_TRY();
	{
		ps_shards_use(shard);
		(void) ps_segment_matches(predicate, "", "");
	}
	PG_FINALLY();
	{
		ps_shards_use(before);
	}
	PG_END_TRY();
}

void
ps_segment_try(const char *predicate)
{
	int			shard;

	if (!ps_distributed())
	{
		(void) ps_segment_matches(predicate, "", "");
		return;
	}
	check_on_shards(predicate);
	shard = first_here();
	if (shard == PS_NO_SHARD)
		try_without_shard(predicate);
	else
		try_on_shard(predicate, shard);
}

static PsMove *
make_move(const char *customer_id, bool enters)
{
	PsMove	   *move = palloc0(sizeof(PsMove));

	move->customer_id = customer_id;
	move->enters = enters;
	return move;
}

/* Members and matches are merged; both are sorted by bytes, because ids have collation "C". */
int
ps_segment_moves(const char *name, const char *after, const char *upto, Datum matches, PsMove ***moves)
{
	Datum		args[3] = {CStringGetTextDatum(after), upto ? CStringGetTextDatum(upto) : (Datum) 0, CStringGetTextDatum(name)};
	Datum	   *values;
	int			nmatches;
	int			nmembers = ps_plan_run(&members_plan, args, upto ? NULL : " n ", SPI_OK_SELECT);
	int			n = 0;
	int			member = 0;
	int			match = 0;

	deconstruct_array(DatumGetArrayTypeP(matches), TEXTOID, -1, false, TYPALIGN_INT, &values, NULL, &nmatches);
	*moves = palloc(Max(nmatches + nmembers, 1) * sizeof(PsMove *));
	while (member < nmembers || match < nmatches)
	{
		char	   *is = member < nmembers ? ps_plan_text(member, 1) : NULL;
		char	   *shall = match < nmatches ? TextDatumGetCString(values[match]) : NULL;
		int			order = is == NULL ? 1 : shall == NULL ? -1 : strcmp(is, shall);

		if (order != 0)
			(*moves)[n++] = make_move(order < 0 ? is : shall, order > 0);
		member += order <= 0;
		match += order >= 0;
	}
	SPI_freetuptable(SPI_tuptable);
	return n;
}

/* Marks the moves that the last statement has made. */
static void
note_done(PsMove **moves, int n, bool enter)
{
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		char	   *customer_id = ps_plan_text(row, 1);

		for (int i = 0; i < n; i++)
			if (moves[i]->enters == enter && !moves[i]->done && strcmp(moves[i]->customer_id, customer_id) == 0)
			{
				moves[i]->done = true;
				break;
			}
	}
	SPI_freetuptable(SPI_tuptable);
}

void
ps_segment_move(const char *name, PsMove **moves, int n, TimestampTz at)
{
	PsColumn	ids[2];			/* customers who leave, and who enter */
	Datum		args[3] = {CStringGetTextDatum(name), (Datum) 0, TimestampTzGetDatum(at)};

	ps_column_init(&ids[0], TEXTOID, n);
	ps_column_init(&ids[1], TEXTOID, n);
	for (int i = 0; i < n; i++)
		ps_column_add_text(&ids[moves[i]->enters], moves[i]->customer_id);
	args[1] = ps_column_array(&ids[0]);
	if (ids[0].n > 0)
	{
		(void) ps_plan_run(&leave_plan, args, NULL, SPI_OK_DELETE_RETURNING);
		note_done(moves, n, false);
	}
	args[1] = ps_column_array(&ids[1]);
	if (ids[1].n > 0)
	{
		(void) ps_plan_run(&enter_plan, args, NULL, SPI_OK_INSERT_RETURNING);
		note_done(moves, n, true);
	}
}

Datum
ps_segment_changes_group(void)
{
	return Int64GetDatum(ps_distributed() ? ps_shards_group() : -1);
}

void
ps_segment_changes_add(const PsSegmentChange *changes, int n, const char *kind, TimestampTz at)
{
	PsColumn	columns[3];
	Datum		args[6];

	if (n == 0)
		return;
	for (int c = 0; c < lengthof(columns); c++)
		ps_column_init(&columns[c], TEXTOID, n);
	for (int i = 0; i < n; i++)
	{
		ps_column_add_text(&columns[0], changes[i].customer_id);
		ps_column_add_text(&columns[1], changes[i].from);
		ps_column_add_text(&columns[2], changes[i].to);
	}
	for (int c = 0; c < lengthof(columns); c++)
		args[c] = ps_column_array(&columns[c]);
	args[3] = CStringGetTextDatum(kind);
	args[4] = TimestampTzGetDatum(at);
	args[5] = ps_segment_changes_group();
	(void) ps_plan_run(&add_changes_plan, args, NULL, SPI_OK_INSERT);
}

uint64
ps_segment_changes_discard(TimestampTz before, int limit)
{
	Datum		args[2] = {TimestampTzGetDatum(before), Int64GetDatum(limit)};

	return ps_plan_run(&discard_plan, args, NULL, SPI_OK_DELETE);
}
