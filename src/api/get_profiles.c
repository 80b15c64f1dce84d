/*
 * get_profiles.c
 *	  get_profile() and get_profiles(): documents of customers, as of now or as of a
 *	  moment that the caller names.
 */
#include "postgres.h"

#include "api/caller.h"
#include "api/profile_document.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/qunique.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "settings.h"
#include "store/distributed.h"
#include "store/extension.h"
#include "store/history_store.h"
#include "store/profile_reader.h"
#include "store/shard_call.h"
#include "store/shards.h"
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

/* The documents of ids, each in its place; 0: there is none. */
static void
read_each_document(const Datum *ids, int n, const PsAsOf *as_of, Datum *documents)
{
	PsDirectReader reader;
	bool		directly = ps_profile_reader_open(&reader);

	for (int i = 0; i < n; i++)
	{
		TupleTableSlot *row = directly ? ps_profile_reader_find(&reader, DatumGetTextPP(ids[i])) : NULL;

		CHECK_FOR_INTERRUPTS();
		if (!directly)
			documents[i] = select_document(ids[i], as_of);
		else if (row != NULL)
			documents[i] = document_of_one(row->tts_values, row->tts_isnull, as_of);
	}
	if (directly)
		ps_direct_reader_close(&reader);
}

PS_FUNCTION(ps_get_profile);
static Datum
ps_get_profile_checked(PG_FUNCTION_ARGS)
{
	PsAsOf		as_of;
	Datum		document = (Datum) 0;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	as_of = ps_as_of_argument(fcinfo, 1);
	read_each_document(&PG_GETARG_DATUM(0), 1, &as_of, &document);
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

/* Documents of customers of distributed profiles. */
typedef struct NodeDocuments
{
	FunctionCallInfo fcinfo;	/* its second argument is the moment */
	const Datum *ids;
	int			n;
	int		   *shard_of;
	Datum	   *documents;		/* 0: there is none, or not yet */
} NodeDocuments;

/* Whether a customer is in a shard; of another node, in any shard of the same node. */
static bool
is_beside(int shard, int of_customer)
{
	return ps_shards_is_here(shard) ? of_customer == shard : ps_shards_first_beside(of_customer) == ps_shards_first_beside(shard);
}

/* The function that another node is asked with. */
static Oid
function_of_nodes(void)
{
	List	   *name = list_make2(makeString(PS_INTERNAL_SCHEMA), makeString("get_profiles"));
	static const Oid types[2] = {TEXTARRAYOID, TIMESTAMPTZOID};

	return LookupFuncName(name, lengthof(types), types, false);
}

/* Has another node read the documents of some ids. */
static void
ask_node(const NodeDocuments *all, int shard, Datum *ids, int n, Datum *documents)
{
	NullableDatum args[] = {{PointerGetDatum(construct_array(ids, n, TEXTOID, -1, false, TYPALIGN_INT)), false}, all->fcinfo->args[1]};
	Datum	   *values;
	bool	   *nulls;
	int			found;

	deconstruct_array(DatumGetArrayTypeP(ps_shard_call_elsewhere(function_of_nodes(), shard, args, true)), JSONBOID, -1, false, TYPALIGN_INT, &values, &nulls, &found);
	if (found != n)
		elog(ERROR, "another node returned %d documents of %d customers", found, n);
	for (int i = 0; i < n; i++)
		documents[i] = nulls[i] ? (Datum) 0 : values[i];
}

/* Reads the documents of a shard that is here, by itself. */
static void
read_shard_documents(const NodeDocuments *all, int shard, const Datum *ids, int n, Datum *documents)
{
	PsAsOf		as_of = ps_as_of_argument(all->fcinfo, 1);
	int			before = ps_shards_used();

	ps_shards_use(shard);
	PG_TRY();
	{
		read_each_document(ids, n, &as_of, documents);
	}
	PG_FINALLY();
	{
		ps_shards_use(before);
	}
	PG_END_TRY();
}

/* Reads the documents of a shard that is here, or of another node: all of those that are beside the first one. */
static void
read_beside(NodeDocuments *all, int first)
{
	int			shard = all->shard_of[first];
	Datum	   *ids = palloc(all->n * sizeof(Datum));
	Datum	   *documents = palloc0(all->n * sizeof(Datum));
	int		   *places = palloc(all->n * sizeof(int));
	int			n = 0;

	for (int i = first; i < all->n; i++)
		if (all->shard_of[i] != PS_NO_SHARD && is_beside(shard, all->shard_of[i]))
		{
			places[n] = i;
			ids[n++] = all->ids[i];
		}
	if (ps_shards_is_here(shard))
		read_shard_documents(all, shard, ids, n, documents);
	else
		ask_node(all, shard, ids, n, documents);
	for (int i = 0; i < n; i++)
	{
		all->documents[places[i]] = documents[i];
		all->shard_of[places[i]] = PS_NO_SHARD;
	}
}

/* The documents of ids, each in its place; 0: there is none. Each other node is asked once. */
static Datum *
documents_of_nodes(FunctionCallInfo fcinfo, const Datum *ids, int n)
{
	NodeDocuments all = {fcinfo, ids, n, palloc(Max(n, 1) * sizeof(int)), palloc0(Max(n, 1) * sizeof(Datum))};

	for (int i = 0; i < n; i++)
	{
		const text *id = (const text *) DatumGetPointer(ids[i]);

		all.shard_of[i] = ps_shards_find(VARDATA_ANY(id), VARSIZE_ANY_EXHDR(id));
	}
	for (int i = 0; i < n; i++)
		if (all.shard_of[i] != PS_NO_SHARD)
			read_beside(&all, i);
	return all.documents;
}

/* Whose documents another node asks for: an array of ids without nulls; the documents are in their order. */
PS_FUNCTION(ps_documents_of_nodes);
static Datum
ps_documents_of_nodes_checked(PG_FUNCTION_ARGS)
{
	Datum	   *ids;
	Datum	   *documents;
	bool	   *nulls;
	int			n;
	int			lower = 1;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &ids, &nulls, &n);
	for (int i = 0; i < n; i++)
		ps_check_argument(!nulls[i], "ids must not be null");
	documents = ps_distributed() ? documents_of_nodes(fcinfo, ids, n) : palloc0(Max(n, 1) * sizeof(Datum));
	for (int i = 0; i < n; i++)
		nulls[i] = documents[i] == (Datum) 0;
	PG_RETURN_ARRAYTYPE_P(construct_md_array(documents, nulls, 1, &n, &lower, JSONBOID, -1, false, TYPALIGN_INT));
}

/* get_profiles() of distributed profiles. */
static void
put_documents_of_nodes(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum	   *ids;
	int			n = sort_ids(PG_GETARG_ARRAYTYPE_P(0), &ids);
	Datum	   *documents = documents_of_nodes(fcinfo, ids, n);

	for (int i = 0; i < n; i++)
	{
		Datum		row[2] = {ids[i], documents[i]};
		bool		none[2] = {false, false};

		if (documents[i] != (Datum) 0)
			tuplestore_putvalues(result->setResult, result->setDesc, row, none);
	}
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
	if (ps_distributed())
	{
		put_documents_of_nodes(fcinfo);
		return (Datum) 0;
	}
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
