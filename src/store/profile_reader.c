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

static PsPlan window_plan = {
	"SELECT p.version, p.window_state FROM profile_stream.materialized_profiles p WHERE p.customer_id = $1", 1, {TEXTOID}
};

static PsPlan masked_plan = {
	"SELECT CASE $2"
	" WHEN 'first_name' THEN pg_catalog.left(NULLIF(p.first_name, ''), 1) || '***'"
	" WHEN 'last_name' THEN pg_catalog.left(NULLIF(p.last_name, ''), 1) || '***'"
	" WHEN 'email' THEN pg_catalog.left(NULLIF(p.email, ''), 1) || '***' || COALESCE(pg_catalog.substring(p.email, '.(@[^@]+)$'), '')"
	" WHEN 'phone' THEN CASE WHEN pg_catalog.length(p.phone) > 5 THEN '***' || pg_catalog.right(p.phone, 2) WHEN p.phone <> '' THEN '***' END"
	" END FROM profile_stream.materialized_profiles p WHERE p.customer_id = $1",
	2, {TEXTOID, TEXTOID}
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

bool
ps_profile_window_select(Datum customer_id, int64 *version, bytea **window_state)
{
	static const Oid types[2] = {INT8OID, BYTEAOID};
	Datum		args[1] = {customer_id};
	bool		isnull;
	bool		found = ps_plan_read(&window_plan, args) > 0;

	ps_plan_check_types(types, 2);
	if (found)
	{
		*version = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		*window_state = DatumGetByteaPCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return found;
}

bytea *
ps_profile_window_read(const text *customer_id)
{
	MemoryContext caller = CurrentMemoryContext;
	bytea	   *state = NULL;
	int64		version;
	PsDirectReader reader;
	TupleTableSlot *row;

	if (ps_profile_reader_open(&reader))
	{
		row = ps_profile_reader_find(&reader, customer_id);
		if (row != NULL)
			state = DatumGetByteaPCopy(row->tts_values[PS_ROW_window_state]);
		ps_direct_reader_close(&reader);
		return state;
	}
	SPI_connect();
	MemoryContextSwitchTo(caller);
	(void) ps_profile_window_select(PointerGetDatum(customer_id), &version, &state);
	SPI_finish();
	return state;
}

char *
ps_profile_masked_read(Datum customer_id, Datum contact)
{
	Datum		args[2] = {customer_id, contact};

	return ps_plan_read(&masked_plan, args) > 0 ? ps_plan_text(0, 1) : NULL;
}
