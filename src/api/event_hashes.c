/*
 * event_hashes.c
 *	  Functions that show event ids, for the export of a customer, for swap_rebuild()
 *	  and for tests.
 */
#include "postgres.h"

#include "core/event_ids.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "store/extension.h"
#include "store/secret.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* Unpacks event_ids of a profile. */
static void
event_ids_unpack(PsEventIds *ids, Datum stored)
{
	if (!ps_event_ids_load(ids, PG_DETOAST_DATUM_PACKED(stored)))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("these are no event ids of a profile")));
}

static Datum
hash_datum(const PsIdHash *hash)
{
	return PointerGetDatum(cstring_to_text_with_len((const char *) hash->bytes, sizeof(hash->bytes)));
}

PS_FUNCTION(ps_event_id_hash_sql);
static Datum
ps_event_id_hash_sql_checked(PG_FUNCTION_ARGS)
{
	text	   *event_id = PG_GETARG_TEXT_PP(0);
	PsIdHash	hash = ps_event_id_hash(ps_event_id_key(), VARDATA_ANY(event_id), VARSIZE_ANY_EXHDR(event_id), PG_GETARG_INT32(1));

	PG_RETURN_DATUM(hash_datum(&hash));
}

PS_FUNCTION(ps_open_event_ids);
static Datum
ps_open_event_ids_checked(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PsEventIds	ids;
	uint32		second = 0;

	event_ids_unpack(&ids, PG_GETARG_DATUM(0));
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < ids.nopen; i++)
	{
		Datum		values[2] = {hash_datum(&ids.open[i].hash), TimestampTzGetDatum(ps_event_ids_time(&ids, i, &second))};
		bool		nulls[2] = {false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

PS_FUNCTION(ps_sealed_event_ids);
static Datum
ps_sealed_event_ids_checked(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bytea	   *hashes = PG_GETARG_BYTEA_PP(0);

	if (!ps_id_chunk_is_valid(hashes))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("these are no hashes of a sealed chunk of event ids")));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (int i = 0; i < VARSIZE_ANY_EXHDR(hashes) / sizeof(PsIdHash); i++)
	{
		Datum		values[1] = {hash_datum((const PsIdHash *) VARDATA_ANY(hashes) + i)};
		bool		nulls[1] = {false};

		CHECK_FOR_INTERRUPTS();
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

PS_FUNCTION(ps_event_ids_sealed_to_sql);
static Datum
ps_event_ids_sealed_to_sql_checked(PG_FUNCTION_ARGS)
{
	PsEventIds	ids;

	event_ids_unpack(&ids, PG_GETARG_DATUM(0));
	if (ids.sealed.chunks == 0)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(ps_event_ids_sealed_to(&ids));
}

PS_FUNCTION(ps_same_event_ids);
static Datum
ps_same_event_ids_checked(PG_FUNCTION_ARGS)
{
	PsEventIds	a;
	PsEventIds	b;

	event_ids_unpack(&a, PG_GETARG_DATUM(0));
	event_ids_unpack(&b, PG_GETARG_DATUM(1));
	PG_RETURN_BOOL(ps_event_ids_equal(&a, &b));
}
