/*
 * profile_reader.c
 *	  Profiles by their ids, as the caller may see them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/plan.h"
#include "store/profile_reader.h"
#include "utils/timestamp.h"

#define PROFILES "materialized_profiles"

static PsPlan documents_plan = {
	"SELECT p.customer_id, profile_stream_internal.profile_document(p, $2)"
	" FROM profile_stream.materialized_profiles p WHERE p.customer_id = ANY ($1) ORDER BY p.customer_id",
	2, {TEXTARRAYOID, TIMESTAMPTZOID}
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
ps_profile_documents_select(Datum customer_ids, TimestampTz as_of)
{
	static const Oid types[2] = {TEXTOID, JSONBOID};
	Datum		args[2] = {customer_ids, TimestampTzGetDatum(as_of)};
	uint64		found = ps_plan_read(&documents_plan, args);

	ps_plan_check_types(types, 2);
	return found;
}

void
ps_profile_documents_get(uint64 row, Datum *customer_id, Datum *document)
{
	bool		isnull;

	*customer_id = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1, &isnull);
	*document = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 2, &isnull);
}
