/*
 * backfill_catalog.c
 *	  The SQL of backfills and seeds, and of how far a rebuild has come with them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "store/backfill_catalog.h"
#include "store/confirmed_code.h"
#include "store/locks.h"
#include "store/plan.h"
#include "store/rebuild_catalog.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define POSITION(alias) alias ".last_event_time, " alias ".last_event_id, " alias ".last_customer_id, " alias ".last_rows"

#define BACKFILL \
	"SELECT b.backfill_id, b.stream_id, b.name, b.owner, b.query, " PS_IS_CONFIRMED("backfill", "b.backfill_id::text") ", " POSITION("b") \
	" FROM profile_stream_internal.backfills b"

static PsPlan find_plan = {BACKFILL " WHERE b.stream_id = $1 AND b.name = $2", 2, {INT4OID, TEXTOID}};

static PsPlan get_plan = {BACKFILL " WHERE b.backfill_id = $1", 1, {INT8OID}};

static PsPlan next_plan = {BACKFILL " WHERE b.backfill_id > $1 ORDER BY b.backfill_id LIMIT 1", 1, {INT8OID}};

static PsPlan add_plan = {
	"INSERT INTO profile_stream_internal.backfills (stream_id, name, owner, query, state, started_at)"
	" SELECT s.stream_id, $2, $3, $4, 'running', pg_catalog.clock_timestamp() FROM profile_stream.streams s WHERE s.stream_id = $1 FOR KEY SHARE"
	" RETURNING backfill_id",
	4, {INT4OID, TEXTOID, REGROLEOID, TEXTOID}
};

static PsPlan drop_plan = {"DELETE FROM profile_stream_internal.backfills b WHERE b.backfill_id = $1", 1, {INT8OID}};

static PsPlan begin_plan = {
	"UPDATE profile_stream_internal.backfills b SET state = 'running', started_at = pg_catalog.clock_timestamp(), finished_at = NULL,"
	" error = NULL, error_at = NULL WHERE b.backfill_id = $1",
	1, {INT8OID}
};

static PsPlan note_plan = {
	"UPDATE profile_stream_internal.backfills b SET last_event_time = $2, last_event_id = $3, last_customer_id = $4, last_rows = $5,"
	" rows_done = b.rows_done + $6, applied = b.applied + $7, duplicates = b.duplicates + $8, dead = b.dead + $9, skipped = b.skipped + $10,"
	" committed_at = pg_catalog.clock_timestamp() WHERE b.backfill_id = $1",
	10, {INT8OID, TIMESTAMPTZOID, TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID}
};

static PsPlan end_plan = {
	"UPDATE profile_stream_internal.backfills b SET state = CASE WHEN $2 IS NULL THEN 'done' ELSE 'failed' END, error = $2,"
	" error_at = CASE WHEN $2 IS NOT NULL THEN pg_catalog.clock_timestamp() END,"
	" finished_at = CASE WHEN $2 IS NULL THEN pg_catalog.clock_timestamp() END WHERE b.backfill_id = $1",
	2, {INT8OID, TEXTOID}
};

static PsPlan keep_plan = {
	"INSERT INTO profile_stream_internal.seeds (customer_id, event, seeded_at) VALUES ($1, $2, pg_catalog.clock_timestamp())",
	2, {TEXTOID, JSONBOID}
};

static PsPlan seeds_plan = {
	"SELECT s.seed_id, s.event::text FROM profile_stream_internal.seeds s WHERE s.seed_id > $1 AND ($2 = 0 OR s.seed_id < $2)"
	" ORDER BY s.seed_id LIMIT $3",
	3, {INT8OID, INT8OID, INT8OID}
};

static PsPlan bootstrap_plan = {
	"SELECT b.bootstrap_done, b.bootstrap_id, b.in_backfill, " POSITION("b") " FROM profile_stream_internal.stream_rebuilds b WHERE b.database = $1",
	1, {OIDOID}
};

static PsPlan set_bootstrap_plan = {
	"UPDATE profile_stream_internal.stream_rebuilds b SET bootstrap_done = $2, bootstrap_id = $3, in_backfill = $4, last_event_time = $5, last_event_id = $6,"
	" last_customer_id = $7, last_rows = $8, bootstrap_rows = b.bootstrap_rows + $9 WHERE b.database = $1",
	9, {OIDOID, BOOLOID, INT8OID, BOOLOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, INT8OID, INT8OID}
};

static Datum
backfill_value(int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, isnull);
}

/* A text of the first row. No constraint holds the columns of a place together: a part that is missing is taken for forgotten. */
static char *
text_or_empty(int column)
{
	char	   *value = ps_plan_text(0, column);

	return value == NULL ? pstrdup("") : value;
}

/* Reads a position from the row, where it begins at a column. */
static PsBackfillPosition
read_position(int column)
{
	PsBackfillPosition position = {0};
	bool		isnull;
	Datum		at = backfill_value(column, &isnull);

	if (isnull)
		return position;
	position.event_time = DatumGetTimestampTz(at);
	position.event_id = text_or_empty(column + 1);
	position.customer_id = text_or_empty(column + 2);
	position.rows = DatumGetInt64(backfill_value(column + 3, &isnull));
	return position;
}

/* Sets the arguments for the four columns of a position. */
static void
set_position(const PsBackfillPosition *position, Datum *args, char *nulls)
{
	memset(nulls, position->event_id == NULL ? 'n' : ' ', 3);
	nulls[3] = ' ';
	args[3] = Int64GetDatum(position->rows);
	if (position->event_id == NULL)
		return;
	args[0] = TimestampTzGetDatum(position->event_time);
	args[1] = CStringGetTextDatum(position->event_id);
	args[2] = CStringGetTextDatum(position->customer_id);
}

static PsBackfill *
find_by(PsPlan *plan, Datum *args)
{
	PsBackfill *backfill = NULL;
	bool		isnull;

	if (ps_plan_run(plan, args, NULL, SPI_OK_SELECT) > 0)
	{
		backfill = palloc0(sizeof(PsBackfill));
		backfill->backfill_id = DatumGetInt64(backfill_value(1, &isnull));
		backfill->stream_id = DatumGetInt32(backfill_value(2, &isnull));
		backfill->name = ps_plan_text(0, 3);
		backfill->owner = DatumGetObjectId(backfill_value(4, &isnull));
		backfill->query = ps_plan_text(0, 5);
		backfill->confirmed = DatumGetBool(backfill_value(6, &isnull));
		backfill->position = read_position(7);
	}
	SPI_freetuptable(SPI_tuptable);
	return backfill;
}

PsBackfill *
ps_backfill_find(int stream_id, const char *name)
{
	Datum		args[2] = {Int32GetDatum(stream_id), CStringGetTextDatum(name)};

	return find_by(&find_plan, args);
}

PsBackfill *
ps_bootstrap_backfill(int64 backfill_id, bool after)
{
	Datum		args[1] = {Int64GetDatum(backfill_id)};

	return find_by(after ? &next_plan : &get_plan, args);
}

void
ps_backfill_add(PsBackfill *backfill)
{
	Datum		args[4] = {Int32GetDatum(backfill->stream_id), CStringGetTextDatum(backfill->name), ObjectIdGetDatum(backfill->owner),
	CStringGetTextDatum(backfill->query)};
	bool		isnull;

	if (ps_definitions_write(&add_plan, args, NULL, SPI_OK_INSERT_RETURNING) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the stream of the backfill was dropped")));
	backfill->backfill_id = DatumGetInt64(backfill_value(1, &isnull));
	backfill->confirmed = true;
	SPI_freetuptable(SPI_tuptable);
	ps_confirm("backfill", psprintf(INT64_FORMAT, backfill->backfill_id));
}

void
ps_backfill_drop(int64 backfill_id)
{
	Datum		args[1] = {Int64GetDatum(backfill_id)};

	(void) ps_plan_run(&drop_plan, args, NULL, SPI_OK_DELETE);
}

void
ps_backfill_begin(int64 backfill_id)
{
	Datum		args[1] = {Int64GetDatum(backfill_id)};

	(void) ps_plan_run(&begin_plan, args, NULL, SPI_OK_UPDATE);
}

void
ps_backfill_note(int64 backfill_id, const PsBackfillPosition *position, const PsBackfillCounts *counts)
{
	Datum		args[10] = {Int64GetDatum(backfill_id)};
	char		nulls[10];

	memset(nulls, ' ', sizeof(nulls));
	set_position(position, &args[1], &nulls[1]);
	args[5] = Int64GetDatum(counts->rows);
	args[6] = Int64GetDatum(counts->applied);
	args[7] = Int64GetDatum(counts->duplicates);
	args[8] = Int64GetDatum(counts->dead);
	args[9] = Int64GetDatum(counts->skipped);
	/* somebody may have dropped it meanwhile: then the position has no place, and the batch must not count */
	ps_plan_write(&note_plan, args, nulls, SPI_OK_UPDATE, 1, "backfills");
}

void
ps_backfill_end(int64 backfill_id, const char *error)
{
	Datum		args[2] = {Int64GetDatum(backfill_id), error ? CStringGetTextDatum(error) : (Datum) 0};

	(void) ps_plan_run(&end_plan, args, error ? "  " : " n", SPI_OK_UPDATE);
}

void
ps_seed_keep(const char *customer_id, Datum event)
{
	Datum		args[2] = {CStringGetTextDatum(customer_id), event};

	ps_plan_write(&keep_plan, args, NULL, SPI_OK_INSERT, 1, "seeds");
}

void
ps_bootstrap_lock(const char *what)
{
	static const char *const tables[] = {"stream_rebuilds"};
	PsRebuild  *rebuild;

	ps_lock_all(tables, lengthof(tables), ShareLock);
	rebuild = ps_rebuild_find(0);
	if (rebuild != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("%s must wait, because a rebuild of stream \"%s\" is under way", what, rebuild->stream),
				 errhint("The rebuild would lack it. Call it again after swap_rebuild() or cancel_rebuild().")));
}

void
ps_bootstrap_get(PsBootstrap *bootstrap)
{
	Datum		args[1] = {ObjectIdGetDatum(MyDatabaseId)};
	bool		isnull;

	memset(bootstrap, 0, sizeof(PsBootstrap));
	bootstrap->done = true;
	if (ps_plan_run(&bootstrap_plan, args, NULL, SPI_OK_SELECT) > 0)
	{
		bootstrap->done = DatumGetBool(backfill_value(1, &isnull));
		bootstrap->id = DatumGetInt64(backfill_value(2, &isnull));
		bootstrap->in_backfill = DatumGetBool(backfill_value(3, &isnull));
		bootstrap->position = read_position(4);
	}
	SPI_freetuptable(SPI_tuptable);
}

void
ps_bootstrap_set(const PsBootstrap *bootstrap, int64 events)
{
	Datum		args[9] = {ObjectIdGetDatum(MyDatabaseId), BoolGetDatum(bootstrap->done), Int64GetDatum(bootstrap->id), BoolGetDatum(bootstrap->in_backfill)};
	char		nulls[9];

	memset(nulls, ' ', sizeof(nulls));
	set_position(&bootstrap->position, &args[4], &nulls[4]);
	args[8] = Int64GetDatum(events);
	(void) ps_plan_run(&set_bootstrap_plan, args, nulls, SPI_OK_UPDATE);
}

int
ps_bootstrap_seeds(int64 after, int64 before, int limit, char **events, int64 *ids)
{
	Datum		args[3] = {Int64GetDatum(after), Int64GetDatum(before), Int64GetDatum(limit)};
	int			n = (int) ps_plan_run(&seeds_plan, args, NULL, SPI_OK_SELECT);

	for (int i = 0; i < n; i++)
	{
		bool		isnull;

		ids[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		events[i] = ps_plan_text(i, 2);
	}
	SPI_freetuptable(SPI_tuptable);
	return n;
}
