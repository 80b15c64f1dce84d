/*
 * history_store.c
 *	  Rows of profile_history. A batch adds them with one INSERT. The value of a key at
 *	  a moment is that of the first row after it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "settings.h"
#include "store/history_catalog.h"
#include "store/history_partitions.h"
#include "store/history_store.h"
#include "store/plan.h"
#include "store/profile_store.h"
#include "store/rebuild_schema.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/timestamp.h"

#define COLUMNS "customer_id, changed_at, version, old"

static PsPlan add_plan = {
	"INSERT INTO profile_stream_internal.profile_history (kind, " COLUMNS ")"
	" SELECT 'event', " COLUMNS " FROM ROWS FROM (" PS_PLAN_ARRAYS ") AS n(" COLUMNS ")",
	4, {TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, JSONBARRAYOID},.first_array = 1
};

/* not before the refresh that gave the scores */
#define SEEDED_AT "GREATEST(p.watermark, p.scored_at)"
#define OF_SEEDED " FROM profile_stream.materialized_profiles p WHERE p.customer_id = ANY ($1) AND " SEEDED_AT " > $2"

static PsPlan seed_times_plan = {
	"SELECT " SEEDED_AT OF_SEEDED, 2, {TEXTARRAYOID, TIMESTAMPTZOID}
};

static PsPlan keep_scores_plan = {
	"INSERT INTO profile_stream_internal.profile_history (kind, " COLUMNS ")"
	" SELECT 'score', p.customer_id, " SEEDED_AT ", p.version, (SELECT pg_catalog.jsonb_object_agg(v.name, v.old)"
	" FROM (VALUES ('segment', pg_catalog.to_jsonb(p.segment)), ('churn_risk_score', pg_catalog.to_jsonb(p.churn_risk_score)),"
	" ('lifetime_value', pg_catalog.to_jsonb(p.lifetime_value))) v(name, old)"
	" JOIN profile_stream_internal.history_columns c ON c.name = v.name)" OF_SEEDED,
	2, {TEXTARRAYOID, TIMESTAMPTZOID}
};

/* of several values of a key the last one stays: that of the first row */
static PsPlan past_plan = {
	"SELECT h.customer_id, pg_catalog.jsonb_object_agg(e.key, e.value ORDER BY h.changed_at DESC, h.version DESC)"
	" FROM profile_stream_internal.profile_history h CROSS JOIN LATERAL pg_catalog.jsonb_each(h.old) e"
	" WHERE h.customer_id = ANY ($1) AND h.changed_at > $2 GROUP BY h.customer_id ORDER BY h.customer_id",
	2, {TEXTARRAYOID, TIMESTAMPTZOID}
};

#define IS_KEPT(key) "(" key " = ANY ($1) OR ($2 AND pg_catalog.starts_with(" key ", '" PS_ATTRIBUTE_KEY "')))"

#define DELETE_OTHERS(schema) \
	"DELETE FROM " schema ".profile_history h WHERE NOT EXISTS" \
	" (SELECT FROM pg_catalog.jsonb_object_keys(h.old) k(key) WHERE " IS_KEPT("k.key") ")"

#define REDUCE_OTHERS(schema) \
	"UPDATE " schema ".profile_history h SET old =" \
	" (SELECT pg_catalog.jsonb_object_agg(e.key, e.value) FROM pg_catalog.jsonb_each(h.old) e WHERE " IS_KEPT("e.key") ")" \
	" WHERE EXISTS (SELECT FROM pg_catalog.jsonb_object_keys(h.old) k(key) WHERE NOT " IS_KEPT("k.key") ")"

static const char *const keep_sql[] = {
	DELETE_OTHERS(PS_INTERNAL_SCHEMA), REDUCE_OTHERS(PS_INTERNAL_SCHEMA),
	DELETE_OTHERS(PS_REBUILD_SCHEMA), REDUCE_OTHERS(PS_REBUILD_SCHEMA)
};

static const char days_sql[] =
"SELECT DISTINCT pg_catalog.date_trunc('day', h.changed_at, 'UTC') FROM " PS_REBUILD_SCHEMA ".profile_history h";

void
ps_history_add(const PsHistoryRow *first)
{
	static const Oid types[4] = {TEXTOID, TIMESTAMPTZOID, INT8OID, JSONBOID};
	PsColumn	columns[4];
	Datum		args[4];
	TimestampTz *times;
	int			n = 0;

	for (const PsHistoryRow *row = first; row != NULL; row = row->next)
		n++;
	if (n == 0)
		return;
	times = palloc(n * sizeof(TimestampTz));
	for (int c = 0; c < lengthof(columns); c++)
		ps_column_init(&columns[c], types[c], n);
	for (const PsHistoryRow *row = first; row != NULL; row = row->next)
	{
		times[columns[0].n] = row->changed_at;
		ps_column_add_text(&columns[0], row->customer_id);
		ps_column_add(&columns[1], TimestampTzGetDatum(row->changed_at));
		ps_column_add(&columns[2], Int64GetDatum(row->version));
		ps_column_add(&columns[3], JsonbPGetDatum(row->old));
	}
	for (int c = 0; c < lengthof(columns); c++)
		args[c] = ps_column_array(&columns[c]);
	if (!ps_rebuild_schema_used())
		ps_history_cover(times, n);
	ps_plan_write(&add_plan, args, NULL, SPI_OK_INSERT, n, "profile_history");
}

/* Makes partitions for the times that a statement returned. */
static void
cover_result(void)
{
	int			n = (int) SPI_processed;
	TimestampTz *times = palloc(Max(n, 1) * sizeof(TimestampTz));

	for (int i = 0; i < n; i++)
	{
		bool		isnull;

		times[i] = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	ps_history_cover(times, n);
}

void
ps_history_keep_scores(const List *seeded, TimestampTz from)
{
	PsColumn	ids;
	Datum		args[2];
	ListCell   *cell;

	if (seeded == NIL || ps_rebuild_schema_used() || !ps_history_tracked()->scores)
		return;
	ps_column_init(&ids, TEXTOID, list_length(seeded));
	foreach(cell, seeded)
	{
		ps_column_add_text(&ids, ((const PsSeeded *) lfirst(cell))->customer_id);
	}
	args[0] = ps_column_array(&ids);
	args[1] = TimestampTzGetDatum(from);
	(void) ps_plan_run(&seed_times_plan, args, NULL, SPI_OK_SELECT);
	cover_result();
	(void) ps_plan_run(&keep_scores_plan, args, NULL, SPI_OK_INSERT);
}

/* A value of the last result, copied. */
static Datum
copy_value(uint64 row, int column)
{
	bool		isnull;

	return datumCopy(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull), false, -1);
}

void
ps_past_read(PsPast *past, Datum customer_ids, TimestampTz at)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum		args[2] = {customer_ids, TimestampTzGetDatum(at)};

	SPI_connect();
	MemoryContextSwitchTo(caller);
	past->n = (int) ps_plan_read(&past_plan, args);
	past->customer_ids = palloc(Max(past->n, 1) * sizeof(Datum));
	past->values = palloc(Max(past->n, 1) * sizeof(Jsonb *));
	for (int i = 0; i < past->n; i++)
	{
		past->customer_ids[i] = copy_value(i, 1);
		past->values[i] = DatumGetJsonbP(copy_value(i, 2));
	}
	SPI_finish();
}

const Jsonb *
ps_past_find(const PsPast *past, const text *customer_id)
{
	int			low = 0;
	int			high = past->n;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		const text *found = DatumGetTextPP(past->customer_ids[middle]);
		int			len = VARSIZE_ANY_EXHDR(found);
		int			order = memcmp(VARDATA_ANY(customer_id), VARDATA_ANY(found), Min(VARSIZE_ANY_EXHDR(customer_id), len));

		if (order == 0)
			order = (int) VARSIZE_ANY_EXHDR(customer_id) - len;
		if (order == 0)
			return past->values[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

void
ps_history_keep_only(Datum keys, bool all_attributes)
{
	static const Oid types[2] = {TEXTARRAYOID, BOOLOID};
	Datum		args[2] = {keys, BoolGetDatum(all_attributes)};

	for (int i = 0; i < lengthof(keep_sql); i++)
		(void) ps_plan_run_once(keep_sql[i], 2, types, args, false);
}

void
ps_history_cover_rebuild(void)
{
	(void) ps_plan_run_once(days_sql, 0, NULL, NULL, false);
	cover_result();
}
