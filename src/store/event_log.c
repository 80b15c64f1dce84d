/*
 * event_log.c
 *	  Event ids in event_ids. They are written directly while the table is plain, else
 *	  with one SELECT, one UPDATE and one INSERT for each batch.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/direct_heap.h"
#include "store/event_log.h"
#include "store/plan.h"
#include "store/secret.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

enum
{
	CUSTOMER_ID, EVENT_ID, SEEN_AT, NCOLUMNS
};

static const Oid column_types[NCOLUMNS] = {TEXTOID, TEXTOID, TIMESTAMPTZOID};
#define MANY_REPEATED 8			/* ids count as often repeated when one of so many is */

static const bool no_nulls[NCOLUMNS] = {false};

#define KEYS_AND_IDS \
	"ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) WITH ORDINALITY" \
	" AS k(key, customer_id, event_id, ordinality)"

#define SAME_ID \
	"profile_stream_internal.event_key(e.customer_id, e.event_id) = k.key" \
	" AND e.customer_id = k.customer_id AND e.event_id = k.event_id"

static PsPlan find_plan = {
	"SELECT k.ordinality::int4, e.seen_at FROM " KEYS_AND_IDS
	" JOIN profile_stream_internal.event_ids e ON " SAME_ID,
	3, {INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID}
};

static PsPlan renew_plan = {
	"UPDATE profile_stream_internal.event_ids e SET seen_at = $4 FROM " KEYS_AND_IDS " WHERE " SAME_ID,
	4, {INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID}
};

static PsPlan insert_plan = {
	"INSERT INTO profile_stream_internal.event_ids (customer_id, event_id, seen_at)"
	" SELECT k.customer_id, k.event_id, $4 FROM " KEYS_AND_IDS,
	4, {INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID}
};

/* Whether the table has an id. */
typedef enum Presence
{
	ABSENT, EXPIRED, PRESENT
} Presence;

int64
ps_event_key(const char *customer_id, int customer_id_len, const char *event_id, int event_id_len)
{
	const PsHashKey *key = ps_secret_hash_key();

	return (int64) (ps_keyed_hash(key, customer_id, customer_id_len) << 32 |
					(uint32) ps_keyed_hash(key, event_id, event_id_len));
}

static int
event_log_compare_keys(const void *a, const void *b)
{
	int64		x = (*(PsEventId *const *) a)->key;
	int64		y = (*(PsEventId *const *) b)->key;

	return x < y ? -1 : x > y;
}

/* Computes the keys and sorts by them, because neighbours in the index are on the same pages. */
static void
order_by_key(PsEventId **ids, int n)
{
	for (int i = 0; i < n; i++)
	{
		ids[i]->key = ps_event_key(ids[i]->customer_id, ids[i]->customer_id_len,
								   ids[i]->event_id, ids[i]->event_id_len);
		ids[i]->known = false;
	}
	qsort(ids, n, sizeof(PsEventId *), event_log_compare_keys);
}

/* Runs a statement on the ids whose presence is as wanted; at is NULL for the SELECT. */
static uint64
run_statement(PsPlan *plan, PsEventId **ids, const Presence *presence, Presence wanted, int n,
			  const TimestampTz *at)
{
	PsColumn	columns[3];
	Datum		args[4];

	ps_column_init(&columns[0], INT8OID, n);
	ps_column_init(&columns[1], TEXTOID, n);
	ps_column_init(&columns[2], TEXTOID, n);
	for (int i = 0; i < n; i++)
	{
		if (presence[i] != wanted)
			continue;
		ps_column_add(&columns[0], Int64GetDatum(ids[i]->key));
		ps_column_add_text(&columns[1], ids[i]->customer_id);
		ps_column_add_text(&columns[2], ids[i]->event_id);
	}
	if (columns[0].n == 0)
		return 0;
	for (int c = 0; c < 3; c++)
		args[c] = ps_column_array(&columns[c]);
	if (at == NULL)
		return ps_plan_run(plan, args, NULL, SPI_OK_SELECT);
	args[3] = TimestampTzGetDatum(*at);
	ps_plan_write(plan, args, NULL, plan == &insert_plan ? SPI_OK_INSERT : SPI_OK_UPDATE, columns[0].n, "event_ids");
	return columns[0].n;
}

/* Looks up all ids with one statement; returns the presence of each. */
static Presence *
find_by_statement(PsEventId **ids, int n, TimestampTz retained_from)
{
	static const Oid types[2] = {INT4OID, TIMESTAMPTZOID};
	Presence   *presence = palloc0(n * sizeof(Presence));
	uint64		found = run_statement(&find_plan, ids, presence, ABSENT, n, NULL);

	ps_plan_check_types(types, 2);
	for (uint64 i = 0; i < found; i++)
	{
		bool		isnull;
		int			id = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)) - 1;
		Datum		seen_at = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull);

		ids[id]->known = DatumGetTimestampTz(seen_at) > retained_from;
		presence[id] = ids[id]->known ? PRESENT : EXPIRED;
	}
	SPI_freetuptable(SPI_tuptable);
	return presence;
}

/* Whether a text is equal to these bytes: rows of other ids may have the same key. */
static bool
same_text(Datum datum, const char *bytes, int len)
{
	text	   *value = DatumGetTextPP(datum);

	return VARSIZE_ANY_EXHDR(value) == len && memcmp(VARDATA_ANY(value), bytes, len) == 0;
}

/* Finds the row of an id in a plain table, or NULL; sets id->known. */
static HeapTuple
find_plain(PsDirectTable *table, PsEventId *id, TimestampTz retained_from)
{
	Datum		key = Int64GetDatum(id->key);

	for (HeapTuple row = ps_direct_find(table, key); row != NULL; row = ps_direct_find_next(table))
	{
		Datum		values[NCOLUMNS];
		bool		nulls[NCOLUMNS];

		heap_deform_tuple(row, RelationGetDescr(table->relation), values, nulls);
		if (same_text(values[EVENT_ID], id->event_id, id->event_id_len) &&
			same_text(values[CUSTOMER_ID], id->customer_id, id->customer_id_len))
		{
			id->known = DatumGetTimestampTz(values[SEEN_AT]) > retained_from;
			return row;
		}
	}
	return NULL;
}

static bool
open_plain(PsDirectTable *table)
{
	return ps_direct_open(table, "event_ids", "event_ids_key", column_types, NCOLUMNS, NCOLUMNS);
}

void
ps_event_log_find(PsEventId **ids, int n, TimestampTz retained_from)
{
	PsDirectTable table;

	if (n == 0)
		return;
	order_by_key(ids, n);
	if (!open_plain(&table))
	{
		(void) find_by_statement(ids, n, retained_from);
		return;
	}
	for (int i = 0; i < n; i++)
		(void) find_plain(&table, ids[i], retained_from);
	ps_direct_close(&table);
}

/* Fills the values of a row for an id. */
static void
fill_row(const PsEventId *id, TimestampTz now, Datum *values)
{
	values[CUSTOMER_ID] = PointerGetDatum(cstring_to_text_with_len(id->customer_id, id->customer_id_len));
	values[EVENT_ID] = PointerGetDatum(cstring_to_text_with_len(id->event_id, id->event_id_len));
	values[SEEN_AT] = TimestampTzGetDatum(now);
}

/* Adds ids to a plain table, after looking up each of them. */
static void
add_plain(PsDirectTable *table, PsEventId **ids, int n, TimestampTz now, TimestampTz retained_from)
{
	for (int i = 0; i < n; i++)
	{
		HeapTuple	row = find_plain(table, ids[i], retained_from);
		Datum		values[NCOLUMNS];

		if (ids[i]->known)
			continue;
		fill_row(ids[i], now, values);
		if (row == NULL)
			ps_direct_insert(table, values, no_nulls, NCOLUMNS);
		else
			ps_direct_update(table, &row->t_self, values, no_nulls);
	}
}

/* Adds ids without looking them up. An id that turns out to be there already is taken back. */
static void
try_plain(PsDirectTable *table, PsEventId **ids, int n, TimestampTz now, TimestampTz retained_from)
{
	PsSpeculativeInsert *trials = palloc(n * sizeof(PsSpeculativeInsert));
	Datum		values[NCOLUMNS];

	for (int i = 0; i < n; i++)
	{
		fill_row(ids[i], now, values);
		trials[i].key = Int64GetDatum(ids[i]->key);
		ps_direct_insert_speculative(table, &trials[i], values, no_nulls);
	}
	ps_direct_flush(table);
	for (int i = 0; i < n; i++)
	{
		HeapTuple	row = trials[i].taken ? find_plain(table, ids[i], retained_from) : NULL;

		if (row == NULL)
			continue;
		ps_direct_undo(table, &trials[i].tid);
		if (ids[i]->known)
			continue;
		fill_row(ids[i], now, values);
		ps_direct_update(table, &row->t_self, values, no_nulls);
	}
}

/*
 * While few ids are repeated, adding without a look-up saves a descent of the
 * index. When many are, as in a replay, the look-up comes first: each row that is
 * taken back would be a dead row.
 */
static void
add_to_plain(PsDirectTable *table, PsEventId **ids, int n, TimestampTz now, TimestampTz retained_from)
{
	static bool few_repeated = true;
	int			repeated = 0;

	if (few_repeated && ps_direct_can_speculate(table))
		try_plain(table, ids, n, now, retained_from);
	else
		add_plain(table, ids, n, now, retained_from);
	for (int i = 0; i < n; i++)
		repeated += ids[i]->known;
	few_repeated = repeated <= n / MANY_REPEATED;
}

void
ps_event_log_add(PsEventId **ids, int n, TimestampTz now, TimestampTz retained_from)
{
	PsDirectTable table;

	if (n == 0)
		return;
	order_by_key(ids, n);
	if (open_plain(&table))
	{
		add_to_plain(&table, ids, n, now, retained_from);
		ps_direct_close(&table);
	}
	else
	{
		Presence   *presence = find_by_statement(ids, n, retained_from);

		(void) run_statement(&renew_plan, ids, presence, EXPIRED, n, &now);
		(void) run_statement(&insert_plan, ids, presence, ABSENT, n, &now);
	}
}
