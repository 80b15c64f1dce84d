/*
 * profile_holder.c
 *	  Finds out by a statement which rows of materialized_profiles can be written
 *	  without waiting, for a table that is not plain.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/plan.h"
#include "store/profile_store.h"

/* locks the rows that nobody else has locked, and returns them */
static PsPlan free_plan = {
	"SELECT k.ordinality::int4 FROM pg_catalog.unnest($1) WITH ORDINALITY AS k(customer_id, ordinality)"
	" JOIN profile_stream.materialized_profiles p ON p.customer_id = k.customer_id"
	" FOR NO KEY UPDATE OF p SKIP LOCKED",
	1, {TEXTARRAYOID}
};

void
ps_profiles_find_free(PsStoredProfile **profiles, int n)
{
	PsColumn	ids;
	Datum		args[1];
	uint64		found;

	ps_column_init(&ids, TEXTOID, n);
	for (int i = 0; i < n; i++)
	{
		if (profiles[i]->holder == 0)
			ps_column_add_null(&ids);
		else
			ps_column_add_text(&ids, profiles[i]->customer_id);
	}
	args[0] = ps_column_array(&ids);
	found = ps_plan_run(&free_plan, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < found; i++)
	{
		bool		isnull;

		profiles[DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)) - 1]->holder = 0;
	}
	SPI_freetuptable(SPI_tuptable);
}
