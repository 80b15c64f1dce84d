/*
 * event_log.c
 *	  Event ids in event_ids: one statement a batch, whatever the batch.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/event_log.h"
#include "store/plan.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static PsPlan find_plan = {
	"SELECT k.ordinality::int4 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY"
	" AS k(customer_id, event_id, ordinality)"
	" JOIN profile_stream.event_ids e ON e.customer_id = k.customer_id AND e.event_id = k.event_id"
	" WHERE e.seen_at > $3",
	3, {TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID}
};

static PsPlan add_plan = {
	"INSERT INTO profile_stream.event_ids AS e (customer_id, event_id, seen_at)"
	" SELECT k.customer_id, k.event_id, $3"
	" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS k(customer_id, event_id)"
	" ON CONFLICT (customer_id, event_id) DO UPDATE SET seen_at = EXCLUDED.seen_at WHERE e.seen_at <= $4"
	" RETURNING e.customer_id, e.event_id",
	4, {TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
};

/* Fills the two array arguments that name the keys. */
static void
key_arrays(PsEventKey **keys, int n, Datum *args)
{
	PsColumn	customers;
	PsColumn	events;

	ps_column_init(&customers, TEXTOID, n);
	ps_column_init(&events, TEXTOID, n);
	for (int i = 0; i < n; i++)
	{
		ps_column_add_text(&customers, keys[i]->customer_id);
		ps_column_add_text(&events, keys[i]->event_id);
		keys[i]->known = false;
	}
	args[0] = ps_column_array(&customers);
	args[1] = ps_column_array(&events);
}

void
ps_event_log_find(PsEventKey **keys, int n, TimestampTz retained_from)
{
	Datum		args[3];
	uint64		found;

	if (n == 0)
		return;
	key_arrays(keys, n, args);
	args[2] = TimestampTzGetDatum(retained_from);
	found = ps_plan_run(&find_plan, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < found; i++)
	{
		bool		isnull;
		Datum		ordinality = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		keys[DatumGetInt32(ordinality) - 1]->known = true;
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Whether a returned row is the row of that key. */
static bool
returned(uint64 row, const PsEventKey *key)
{
	HeapTuple	tuple = SPI_tuptable->vals[row];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	bool		isnull;
	text	   *event_id = DatumGetTextPP(SPI_getbinval(tuple, desc, 2, &isnull));
	text	   *customer_id = DatumGetTextPP(SPI_getbinval(tuple, desc, 1, &isnull));

	return VARSIZE_ANY_EXHDR(event_id) == strlen(key->event_id) &&
		memcmp(VARDATA_ANY(event_id), key->event_id, strlen(key->event_id)) == 0 &&
		VARSIZE_ANY_EXHDR(customer_id) == strlen(key->customer_id) &&
		memcmp(VARDATA_ANY(customer_id), key->customer_id, strlen(key->customer_id)) == 0;
}

/*
 * The statement returns the rows that it added, in the order of the arrays, so
 * the keys that it skipped are found by walking both.
 */
void
ps_event_log_add(PsEventKey **keys, int n, TimestampTz now, TimestampTz retained_from)
{
	Datum		args[4];
	uint64		added;
	uint64		row = 0;

	if (n == 0)
		return;
	key_arrays(keys, n, args);
	args[2] = TimestampTzGetDatum(now);
	args[3] = TimestampTzGetDatum(retained_from);
	added = ps_plan_run(&add_plan, args, NULL, SPI_OK_INSERT_RETURNING);
	for (int i = 0; i < n && added < n; i++)
	{
		keys[i]->known = row >= added || !returned(row, keys[i]);
		if (!keys[i]->known)
			row++;
	}
	if (added < n && row != added)
		elog(ERROR, "event ids came back in another order");
	SPI_freetuptable(SPI_tuptable);
}
