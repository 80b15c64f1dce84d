/*
 * profile_reader.c
 *	  Profiles by their ids, as the caller may see them.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "store/plan.h"
#include "store/profile_reader.h"

#define PROFILES "materialized_profiles"

static PsPlan rows_plan = {
	"SELECT p.* FROM profile_stream.materialized_profiles p WHERE p.customer_id = ANY ($1) ORDER BY p.customer_id",
	1, {TEXTARRAYOID}
};

bool
ps_profile_reader_open(PsDirectReader *reader)
{
	return ps_direct_reader_open(reader, PROFILES, PROFILES "_pkey", ps_profile_types, PS_ROW_ALL_COLUMNS, 1);
}

TupleTableSlot *
ps_profile_reader_find(PsDirectReader *reader, const text *customer_id)
{
	ps_direct_reader_set_text(reader, 0, customer_id);
	ps_direct_reader_begin(reader);
	return ps_direct_reader_next(reader);
}

uint64
ps_profile_rows_select(Datum customer_ids)
{
	uint64		found = ps_plan_read(&rows_plan, &customer_ids);

	ps_plan_check_types(ps_profile_types, PS_ROW_ALL_COLUMNS);
	return found;
}

void
ps_profile_rows_get(uint64 row, Datum **values, bool **nulls)
{
	TupleDesc	desc = SPI_tuptable->tupdesc;

	*values = palloc(desc->natts * sizeof(Datum));
	*nulls = palloc(desc->natts * sizeof(bool));
	heap_deform_tuple(SPI_tuptable->vals[row], desc, *values, *nulls);
}
