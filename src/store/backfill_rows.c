/*
 * backfill_rows.c
 *	  Reads the rows of a backfill's query.
 *
 *	  The query stands in parentheses in a statement of ours, which makes an event of
 *	  each row and puts the rows in order. It was parsed alone before, so that its
 *	  parentheses are in pairs. It runs as its owner in a security-restricted operation:
 *	  also in the process of a rebuild, which a superuser has connected.
 *
 *	  Settings that values depend on are fixed. A call that goes on, and a rebuild, have
 *	  other sessions than the first call, and must find the same rows in the same order.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "store/backfill_rows.h"
#include "store/confirmed_code.h"
#include "store/user_code.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#define AT_ONCE 1000			/* rows that are fetched at once */

struct PsBackfillRows
{
	Tuplestorestate *store;
	TupleTableSlot *slot;
	bool		is_read;		/* the slot has the next row already */
	PsBackfillPosition last;	/* place of the last row, with how many there were */
	PsBackfillPosition upto;
	MemoryContext context;
	MemoryContext place_context;	/* has what last points to */
};

/* The columns that a query may have: the seven members of an event, or the event itself. */
static const struct
{
	const char *name;
	const char *member;
	Oid			types[3];		/* that it may have; none: any */
	bool		required;
	const char *cast;			/* to be written when the type is another one */
}			columns[] = {
	{"event_id", "eventId", {InvalidOid}, true, "event_id::text"},
	{"customer_id", "customerId", {InvalidOid}, true, "customer_id::text"},
	{"event_type", "eventType", {TEXTOID, VARCHAROID, NAMEOID}, true, "event_type::text"},
	{"event_time", "timestamp", {TIMESTAMPTZOID}, true, "event_time AT TIME ZONE 'UTC'"},
	{"payload", "payload", {JSONBOID, JSONOID}, false, "payload::jsonb"},
	{"source", "source", {TEXTOID, VARCHAROID, NAMEOID}, false, "source::text"},
	{"schema_version", "schemaVersion", {INT4OID, INT2OID, INT8OID}, false, "schema_version::int"}
};

static void
add_context(void *arg)
{
	const PsBackfill *backfill = arg;

	errposition(0);				/* it would be one of a statement that nobody has written */
	errcontext("query of backfill \"%s\", with search_path pg_catalog, pg_temp", backfill->name);
}

static void
refuse_query(const char *message)
{
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("%s", message),
			 errhint("For example: SELECT event_id, customer_id, event_type, event_time, payload FROM public.old_events.")));
}

/* Whether a text is one SELECT. */
static bool
is_one_select(const char *sql)
{
	List	   *statements = raw_parser(sql, RAW_PARSE_DEFAULT);
	SelectStmt *select;

	if (list_length(statements) != 1)
		return false;
	select = (SelectStmt *) linitial_node(RawStmt, statements)->stmt;
	return IsA(select, SelectStmt) && select->intoClause == NULL && select->lockingClause == NIL;
}

void
ps_backfill_check_query(const char *query)
{
	/* the second time as it is used: then no comment hides the closing parenthesis */
	if (!is_one_select(query) || !is_one_select(psprintf("SELECT * FROM (\n%s\n) AS q", query)))
		refuse_query("the query of a backfill must be one SELECT, without INTO and FOR UPDATE");
}

/* The type of a column of the query; InvalidOid when it has no such column. */
static Oid
column_type(TupleDesc desc, const char *name)
{
	for (int i = 0; i < desc->natts; i++)
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return TupleDescAttr(desc, i)->atttypid;
	return InvalidOid;
}

/* Raises unless the column is absent where it may be, or has one of its types; returns whether it is there. */
static bool
check_column(TupleDesc desc, int column)
{
	Oid			type = column_type(desc, columns[column].name);
	bool		fits = !OidIsValid(columns[column].types[0]);

	if (!OidIsValid(type) && columns[column].required)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("the query of the backfill has no column \"%s\"", columns[column].name),
				 errhint("Columns are event_id, customer_id, event_type, event_time, and if wanted payload, source and schema_version; or event alone, of type jsonb.")));
	for (int i = 0; i < lengthof(columns[column].types); i++)
		fits |= OidIsValid(type) && type == columns[column].types[i];
	if (OidIsValid(type) && !fits)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of the backfill's query has type %s", columns[column].name, format_type_be(type)),
				 errhint("Convert it, as in %s AS %s.", columns[column].cast, columns[column].name)));
	return OidIsValid(type);
}

/* Raises when the query has a column that no event has. */
static void
refuse_other_columns(TupleDesc desc)
{
	for (int i = 0; i < desc->natts; i++)
	{
		const char *name = NameStr(TupleDescAttr(desc, i)->attname);
		int			found = 0;
		int			times = 0;

		for (int c = 0; c < lengthof(columns); c++)
			found += strcmp(columns[c].name, name) == 0;
		for (int j = 0; j < desc->natts; j++)
			times += strcmp(NameStr(TupleDescAttr(desc, j)->attname), name) == 0;
		if (found == 0 || times > 1)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg(found == 0 ? "events have no column \"%s\"" : "the query of the backfill has column \"%s\" twice", name),
					 errhint("Put more values into payload, as in jsonb_build_object('amount', amount) AS payload.")));
	}
}

/* Adds the expressions of place and event to a statement: event_time, event_id, customer_id and event. */
static void
add_expressions(StringInfo sql, TupleDesc desc)
{
	Oid			type = column_type(desc, "event");

	if (desc->natts == 1 && (type == JSONBOID || type == JSONOID))
	{
		appendStringInfoString(sql, "COALESCE(profile_stream_internal.event_time(q.event::pg_catalog.jsonb), '-infinity') AS event_time,"
							   " COALESCE(q.event::pg_catalog.jsonb OPERATOR(pg_catalog.->>) 'eventId', '') COLLATE pg_catalog.\"C\" AS event_id,"
							   " COALESCE(q.event::pg_catalog.jsonb OPERATOR(pg_catalog.->>) 'customerId', '') COLLATE pg_catalog.\"C\" AS customer_id,"
							   " q.event::pg_catalog.jsonb::pg_catalog.text COLLATE pg_catalog.\"C\" AS event");
		return;
	}
	appendStringInfoString(sql, "COALESCE(q.event_time, '-infinity') AS event_time,"
						   " COALESCE(q.event_id::pg_catalog.text, '') COLLATE pg_catalog.\"C\" AS event_id,"
						   " COALESCE(q.customer_id::pg_catalog.text, '') COLLATE pg_catalog.\"C\" AS customer_id,"
						   " pg_catalog.jsonb_build_object(");
	for (int c = 0, added = 0; c < lengthof(columns); c++)
		if (check_column(desc, c))
			appendStringInfo(sql, "%s'%s', q.%s%s", added++ > 0 ? ", " : "", columns[c].member, columns[c].name,
							 OidIsValid(columns[c].types[0]) ? "" : "::pg_catalog.text");
	refuse_other_columns(desc);
	appendStringInfoString(sql, ")::pg_catalog.text COLLATE pg_catalog.\"C\" AS event");
}

/* The statement that reads the rows of a query. */
static char *
make_statement(const char *query)
{
	SPIPlanPtr	plan = SPI_prepare(psprintf("SELECT * FROM (\n%s\n) AS q", query), 0, NULL);
	StringInfoData sql;

	if (plan == NULL)
		elog(ERROR, "could not prepare the query of a backfill: %s", SPI_result_code_string(SPI_result));
	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT s.event_time, s.event_id, s.customer_id, s.event FROM (SELECT ");
	add_expressions(&sql, ((CachedPlanSource *) linitial(SPI_plan_get_plan_sources(plan)))->resultDesc);
	appendStringInfo(&sql, " FROM (\n%s\n) AS q) AS s"
					 " WHERE ($2 IS NULL OR ROW(s.event_time, s.event_id, s.customer_id) >= ROW($1, $2, $3))"
	/* an empty place is that of all rows of its time: what it was is forgotten */
					 " AND ($5 IS NULL OR s.event_time < $4 OR s.event_time = $4 AND ($5 = '' OR ROW(s.event_id, s.customer_id) <= ROW($5, $6)))"
					 " ORDER BY 1, 2, 3, 4", query);
	SPI_freeplan(plan);
	return sql.data;
}

/* Sets the arguments of a place. */
static void
set_place(const PsBackfillPosition *place, Datum *args, char *nulls)
{
	memset(nulls, place->event_id == NULL ? 'n' : ' ', 3);
	if (place->event_id == NULL)
		return;
	args[0] = TimestampTzGetDatum(place->event_time);
	args[1] = CStringGetTextDatum(place->event_id);
	args[2] = CStringGetTextDatum(place->customer_id);
}

/* Puts all rows of the query into the store. */
static void
fill_store(PsBackfillRows *rows, const char *query, const PsBackfillPosition *from)
{
	Oid			types[6] = {TIMESTAMPTZOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID};
	Datum		args[6] = {0};
	char		nulls[6];
	Portal		portal;

	set_place(from, args, nulls);
	set_place(&rows->upto, args + 3, nulls + 3);
	portal = SPI_cursor_open_with_args(NULL, make_statement(query), 6, types, args, nulls, true, 0);
	for (;;)
	{
		SPI_cursor_fetch(portal, true, AT_ONCE);
		if (rows->slot == NULL)
		{
			MemoryContext caller = MemoryContextSwitchTo(rows->context);

			rows->slot = MakeSingleTupleTableSlot(CreateTupleDescCopy(SPI_tuptable->tupdesc), &TTSOpsMinimalTuple);
			MemoryContextSwitchTo(caller);
		}
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed; i++)
			tuplestore_puttuple(rows->store, SPI_tuptable->vals[i]);
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(portal);

	/* the file is written to its end now: later there is no resource owner for more of it */
	(void) tuplestore_advance(rows->store, true);
	tuplestore_rescan(rows->store);
}

/* Runs the query as its owner. */
static void
run_as_owner(PsBackfillRows *rows, const PsBackfill *backfill, const PsBackfillPosition *from)
{
	Oid			user;
	int			context;
	int			nest_level = NewGUCNestLevel();
	const char *ending;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(backfill->owner, context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	ps_role_fix_settings();
	ps_user_code_begin(0, NULL);
	fill_store(rows, backfill->query, from);
	ending = ps_user_code_end();
	if (ending != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("the query of backfill \"%s\" %s", backfill->name, ending)));
	AtEOXact_GUC(false, nest_level);
	SetUserIdAndSecContext(user, context);
}

/* Raises unless the query may run. */
static void
check_may_run(const PsBackfill *backfill)
{
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(backfill->owner)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the role with whose rights backfill \"%s\" runs is gone", backfill->name),
				 errhint("drop_backfill() forgets it; backfill() then runs the query with the rights of its caller.")));
	if (!backfill->confirmed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("backfill \"%s\" is not confirmed", backfill->name),
				 errhint(PS_CONFIRM_HINT)));
}

static PsBackfillPosition
copy_place(const PsBackfillPosition *place)
{
	PsBackfillPosition copy = *place;

	if (place->event_id != NULL)
	{
		copy.event_id = pstrdup(place->event_id);
		copy.customer_id = pstrdup(place->customer_id);
	}
	return copy;
}

/* Reads the place of the row in the slot, into the current context. */
static PsBackfillPosition
read_place(const PsBackfillRows *rows)
{
	PsBackfillPosition place = {0};
	bool		isnull;

	place.event_time = DatumGetTimestampTz(slot_getattr(rows->slot, 1, &isnull));
	place.event_id = TextDatumGetCString(slot_getattr(rows->slot, 2, &isnull));
	place.customer_id = TextDatumGetCString(slot_getattr(rows->slot, 3, &isnull));
	return place;
}

static bool
is_same_place(const PsBackfillPosition *a, const PsBackfillPosition *b)
{
	return a->event_id != NULL && b->event_id != NULL && a->event_time == b->event_time &&
		strcmp(a->event_id, b->event_id) == 0 && strcmp(a->customer_id, b->customer_id) == 0;
}

/* Passes over the rows that are done already: so many of those that have the place where it begins. */
static void
skip_done(PsBackfillRows *rows, const PsBackfillPosition *from)
{
	for (int64 i = 0; from->event_id != NULL && i < from->rows; i++)
	{
		PsBackfillPosition place;

		if (!tuplestore_gettupleslot(rows->store, true, false, rows->slot))
			return;
		place = read_place(rows);
		if (is_same_place(&place, from))
			continue;
		rows->is_read = true;	/* the query returns fewer of them than before */
		return;
	}
}

PsBackfillRows *
ps_backfill_rows_read(const PsBackfill *backfill, const PsBackfillPosition *from, const PsBackfillPosition *upto)
{
	ErrorContextCallback callback = {error_context_stack, add_context, unconstify(PsBackfill *, backfill)};
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "profile_stream backfill", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	PsBackfillRows *rows = palloc0(sizeof(PsBackfillRows));

	rows->context = context;
	rows->place_context = AllocSetContextCreate(context, "profile_stream place", ALLOCSET_SMALL_SIZES);
	rows->upto = copy_place(upto);
	rows->last = copy_place(from);
	rows->store = tuplestore_begin_heap(false, true, work_mem);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		error_context_stack = &callback;
		check_may_run(backfill);
		ps_backfill_check_query(backfill->query);
		run_as_owner(rows, backfill, from);
		error_context_stack = callback.previous;
	}
	PG_CATCH();
	{
		if (ps_user_code_is_on())
			(void) ps_user_code_end();
		tuplestore_end(rows->store);	/* its file would stay until the session ends */
		PG_RE_THROW();
	}
	PG_END_TRY();

	skip_done(rows, from);
	return rows;
}

void
ps_backfill_rows_close(PsBackfillRows *rows)
{
	tuplestore_end(rows->store);
	ExecDropSingleTupleTableSlot(rows->slot);
	MemoryContextDelete(rows->context);
}

/* Goes on to a place, and counts the rows that have it. */
static void
move_to(PsBackfillRows *rows, const PsBackfillPosition *place)
{
	MemoryContext caller;

	if (is_same_place(&rows->last, place))
	{
		rows->last.rows++;
		return;
	}
	MemoryContextReset(rows->place_context);
	caller = MemoryContextSwitchTo(rows->place_context);
	rows->last = copy_place(place);
	rows->last.rows = 1;
	MemoryContextSwitchTo(caller);
}

/* Whether the last row is behind the last one that shall be read; one place may have more rows than were done. */
static bool
is_behind(const PsBackfillRows *rows)
{
	return is_same_place(&rows->last, &rows->upto) && rows->upto.event_id[0] != '\0' && rows->last.rows > rows->upto.rows;
}

bool
ps_backfill_rows_next(PsBackfillRows *rows, char **event, PsBackfillPosition *position)
{
	PsBackfillPosition place;
	Datum		value;
	bool		isnull;

	if (!rows->is_read && !tuplestore_gettupleslot(rows->store, true, false, rows->slot))
		return false;
	rows->is_read = false;
	place = read_place(rows);
	value = slot_getattr(rows->slot, 4, &isnull);
	*event = isnull ? NULL : TextDatumGetCString(value);
	move_to(rows, &place);
	if (is_behind(rows))
		return false;
	*position = copy_place(&rows->last);
	return true;
}
