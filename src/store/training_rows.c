/*
 * training_rows.c
 *	  Rows of profiles for pairs of a customer and a moment: one statement for many pairs.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "store/plan.h"
#include "store/profile_row.h"
#include "store/training_rows.h"

#define PAIRS "ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY AS k(customer_id, at, n)"
#define ROWS_OF_PAIRS(old, history) \
	"SELECT p.*, " old " AS past FROM " PAIRS \
	" LEFT JOIN profile_stream.materialized_profiles p ON p.customer_id = k.customer_id" history " ORDER BY k.n"

static PsPlan rows_plan = {
	ROWS_OF_PAIRS("NULL::jsonb", ""),
	2, {TEXTARRAYOID, TIMESTAMPTZARRAYOID}
};

/* of several values of a key the last one stays: that of the first row after the moment */
static PsPlan past_rows_plan = {
	ROWS_OF_PAIRS("h.old",
				  " LEFT JOIN LATERAL (SELECT pg_catalog.jsonb_object_agg(e.key, e.value ORDER BY c.changed_at DESC, c.version DESC) AS old"
				  " FROM profile_stream_internal.profile_history c CROSS JOIN LATERAL pg_catalog.jsonb_each(c.old) e"
				  " WHERE c.customer_id = k.customer_id AND c.changed_at > k.at) h ON true"),
	2, {TEXTARRAYOID, TIMESTAMPTZARRAYOID}
};

void
ps_training_rows_select(Datum customer_ids, Datum moments, bool with_history)
{
	Datum		args[2] = {customer_ids, moments};

	(void) ps_plan_read(with_history ? &past_rows_plan : &rows_plan, args);
	ps_plan_check_types(ps_profile_types, PS_ROW_ALL_COLUMNS);
}

bool
ps_training_rows_get(uint64 row, Datum **values, bool **nulls, const Jsonb **old)
{
	TupleDesc	desc = SPI_tuptable->tupdesc;
	int			past = desc->natts - 1;

	*values = palloc(desc->natts * sizeof(Datum));
	*nulls = palloc(desc->natts * sizeof(bool));
	heap_deform_tuple(SPI_tuptable->vals[row], desc, *values, *nulls);
	*old = (*nulls)[past] ? NULL : DatumGetJsonbP((*values)[past]);
	return !(*nulls)[PS_ROW_customer_id];
}
