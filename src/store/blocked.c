/*
 * blocked.c
 *	  The SQL of blocked_customers and blocking_salt. Blocking and applying both hold
 *	  the customer's lock, so that no event is applied while its customer is blocked.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "settings.h"
#include "storage/bufmgr.h"
#include "store/blocked.h"
#include "store/owner.h"
#include "store/plan.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#define SALT_BYTES 32

static PsPlan find_plan = {
	"SELECT c.ordinality::int4 FROM profile_stream_internal.blocking_salt s CROSS JOIN"
	" pg_catalog.unnest($1) WITH ORDINALITY AS c(customer_id, ordinality)"
	" JOIN profile_stream_internal.blocked_customers b ON b.customer_hash = " PS_BLOCKED_HASH("c.customer_id") " WHERE s.is_only",
	1, {TEXTARRAYOID}
};

static PsPlan salt_plan = {
	"INSERT INTO profile_stream_internal.blocking_salt (salt) VALUES ($1) ON CONFLICT DO NOTHING",
	1, {BYTEAOID}
};

static PsPlan add_plan = {
	"INSERT INTO profile_stream_internal.blocked_customers (customer_hash, blocked_at)"
	" SELECT " PS_BLOCKED_HASH("$1") ", pg_catalog.now() FROM profile_stream_internal.blocking_salt s WHERE s.is_only ON CONFLICT DO NOTHING",
	1, {TEXTOID}
};

static PsPlan remove_plan = {
	"DELETE FROM profile_stream_internal.blocked_customers b USING profile_stream_internal.blocking_salt s"
	" WHERE s.is_only AND b.customer_hash = " PS_BLOCKED_HASH("$1"),
	1, {TEXTOID}
};

bool
ps_blocked_any(void)
{
	Oid			relid = ps_own_table(false, "blocked_customers");
	Relation	relation = OidIsValid(relid) ? try_table_open(relid, AccessShareLock) : NULL;
	bool		any = true;		/* when the table cannot be opened, ps_blocked_find() raises the error */

	if (relation != NULL)
	{
		any = RelationGetNumberOfBlocks(relation) > 0;
		table_close(relation, AccessShareLock);
	}
	return any;
}

void
ps_blocked_find(const char *const *customer_ids, int n, bool *blocked)
{
	PsColumn	column;
	Datum		args[1];
	uint64		found;

	memset(blocked, 0, n * sizeof(bool));
	if (n == 0)
		return;
	ps_column_init(&column, TEXTOID, n);
	for (int i = 0; i < n; i++)
		ps_column_add_text(&column, customer_ids[i]);
	args[0] = ps_column_array(&column);
	found = ps_plan_run(&find_plan, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < found; i++)
	{
		bool		isnull;

		blocked[DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)) - 1] = true;
	}
	SPI_freetuptable(SPI_tuptable);
}

bool
ps_blocked_add(const char *customer_id)
{
	bytea	   *salt = palloc(VARHDRSZ + SALT_BYTES);
	Datum		args[1] = {PointerGetDatum(salt)};

	SET_VARSIZE(salt, VARHDRSZ + SALT_BYTES);
	if (!pg_strong_random(VARDATA(salt), SALT_BYTES))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a random salt")));
	(void) ps_plan_run(&salt_plan, args, NULL, SPI_OK_INSERT);
	args[0] = CStringGetTextDatum(customer_id);
	return ps_plan_run(&add_plan, args, NULL, SPI_OK_INSERT) > 0;
}

bool
ps_blocked_remove(const char *customer_id)
{
	Datum		args[1] = {CStringGetTextDatum(customer_id)};

	return ps_plan_run(&remove_plan, args, NULL, SPI_OK_DELETE) > 0;
}
