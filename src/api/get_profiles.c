/*
 * get_profiles.c
 *	  get_profile() and get_profiles(): documents of customers, as of now or as of a
 *	  moment that the caller names.
 */
#include "postgres.h"

#include "api/profile_document.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/qunique.h"
#include "miscadmin.h"
#include "store/extension.h"
#include "store/history_store.h"
#include "store/profile_reader.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Whether documents of the moment may need the history. */
static bool
needs_past(const PsAsOf *as_of)
{
	return as_of->is_named && as_of->tracked->nnames > 0;
}

/* The document of a row, for which it reads the history if events or scores have changed it since the moment. */
static Datum
document_of_one(const Datum *values, const bool *nulls, const PsAsOf *as_of)
{
	Datum		customer_id = values[PS_ROW_customer_id];
	const Jsonb *old = NULL;
	PsPast		past;

	if (needs_past(as_of) && (ps_row_has_later_events(values, nulls, as_of) || ps_row_has_later_scores(values, nulls, as_of)))
	{
		ps_past_read(&past, PointerGetDatum(construct_array(&customer_id, 1, TEXTOID, -1, false, TYPALIGN_INT)), as_of->at);
		old = ps_past_find(&past, DatumGetTextPP(customer_id));
	}
	return ps_document_of_row(values, nulls, as_of, old);
}

/* The document of one customer by a statement; 0: there is none. */
static Datum
select_document(Datum customer_id, const PsAsOf *as_of)
{
	ArrayType  *ids = construct_array(&customer_id, 1, TEXTOID, -1, false, TYPALIGN_INT);
	Datum		document = (Datum) 0;
	Datum	   *values;
	bool	   *nulls;

	SPI_connect();
	if (ps_profile_rows_select(PointerGetDatum(ids)) > 0)
	{
		ps_profile_rows_get(0, &values, &nulls);
		document = SPI_datumTransfer(document_of_one(values, nulls, as_of), false, -1);
	}
	SPI_finish();
	return document;
}

PS_FUNCTION(ps_get_profile);
static Datum
ps_get_profile_checked(PG_FUNCTION_ARGS)
{
	PsAsOf		as_of;
	PsDirectReader reader;
	Datum		document = (Datum) 0;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	as_of = ps_as_of_argument(fcinfo, 1);
	if (ps_profile_reader_open(&reader))
	{
		TupleTableSlot *row = ps_profile_reader_find(&reader, PG_GETARG_TEXT_PP(0));

		if (row != NULL)
			document = document_of_one(row->tts_values, row->tts_isnull, &as_of);
		ps_direct_reader_close(&reader);
	}
	else
		document = select_document(PG_GETARG_DATUM(0), &as_of);
	if (document == (Datum) 0)
		PG_RETURN_NULL();
	return document;
}

/* The order of customer_id, which has the collation "C". */
static int
compare_ids(const void *a, const void *b)
{
	const text *x = (const text *) DatumGetPointer(*(const Datum *) a);
	const text *y = (const text *) DatumGetPointer(*(const Datum *) b);
	int			order = memcmp(VARDATA_ANY(x), VARDATA_ANY(y), Min(VARSIZE_ANY_EXHDR(x), VARSIZE_ANY_EXHDR(y)));

	return order != 0 ? order : (int) VARSIZE_ANY_EXHDR(x) - (int) VARSIZE_ANY_EXHDR(y);
}

/* The ids of an array, each once and sorted, without nulls; returns how many. */
static int
sort_ids(ArrayType *array, Datum **ids)
{
	bool	   *nulls;
	int			n;
	int			found = 0;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, ids, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			(*ids)[found++] = PointerGetDatum(DatumGetTextPP((*ids)[i]));
	if (found == 0)
		return 0;
	qsort(*ids, found, sizeof(Datum), compare_ids);
	return (int) qunique(*ids, found, sizeof(Datum), compare_ids);
}

/* Documents on their way into a result. */
typedef struct Documents
{
	PsAsOf		as_of;
	PsPast		past;			/* of all customers */
	ReturnSetInfo *result;
	MemoryContext context;		/* of one document */
} Documents;

/* Adds the document of a row to the result. */
static void
put_document(Documents *documents, const Datum *values, const bool *nulls)
{
	MemoryContext caller = MemoryContextSwitchTo(documents->context);
	const Jsonb *old = ps_past_find(&documents->past, DatumGetTextPP(values[PS_ROW_customer_id]));
	Datum		row[2] = {values[PS_ROW_customer_id], ps_document_of_row(values, nulls, &documents->as_of, old)};
	bool		none[2] = {false, false};

	tuplestore_putvalues(documents->result->setResult, documents->result->setDesc, row, none);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(documents->context);
}

/* Reads the profiles of sorted ids in one pass over the index, so that neighbours find its pages in the cache. */
static void
read_documents(PsDirectReader *reader, ArrayType *array, Documents *documents)
{
	Datum	   *ids;
	int			n = sort_ids(array, &ids);

	for (int i = 0; i < n; i++)
	{
		TupleTableSlot *row;

		CHECK_FOR_INTERRUPTS();
		row = ps_profile_reader_find(reader, (const text *) DatumGetPointer(ids[i]));
		if (row != NULL)
			put_document(documents, row->tts_values, row->tts_isnull);
	}
}

/* The same by a statement. */
static void
select_documents(ArrayType *array, Documents *documents)
{
	int			n;

	SPI_connect();
	n = (int) ps_profile_rows_select(PointerGetDatum(array));
	for (int i = 0; i < n; i++)
	{
		MemoryContext caller = MemoryContextSwitchTo(documents->context);
		Datum	   *values;
		bool	   *nulls;

		CHECK_FOR_INTERRUPTS();
		ps_profile_rows_get(i, &values, &nulls);
		put_document(documents, values, nulls);
		MemoryContextSwitchTo(caller);
	}
	SPI_finish();
}

PS_FUNCTION(ps_get_profiles);
static Datum
ps_get_profiles_checked(PG_FUNCTION_ARGS)
{
	Documents	documents = {.as_of = ps_as_of_argument(fcinfo, 1),.result = (ReturnSetInfo *) fcinfo->resultinfo};
	ArrayType  *array;
	PsDirectReader reader;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	array = PG_GETARG_ARRAYTYPE_P(0);
	documents.context = AllocSetContextCreate(CurrentMemoryContext, "profile document", ALLOCSET_DEFAULT_SIZES);
	if (needs_past(&documents.as_of))
		ps_past_read(&documents.past, PointerGetDatum(array), documents.as_of.at);
	if (ps_profile_reader_open(&reader))
	{
		read_documents(&reader, array, &documents);
		ps_direct_reader_close(&reader);
	}
	else
		select_documents(array, &documents);
	MemoryContextDelete(documents.context);
	return (Datum) 0;
}
