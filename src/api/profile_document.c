/*
 * profile_document.c
 *	  Profiles as documents: get_profile(), get_profiles(), and the documents of the
 *	  view and of the sinks.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "api/metric_values.h"
#include "catalog/pg_type.h"
#include "core/iso8601.h"
#include "core/jsonb_object.h"
#include "core/value.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/qunique.h"
#include "miscadmin.h"
#include "store/profile_reader.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

typedef enum MemberKind
{
	MEMBER_NONE,				/* a column without a member */
	MEMBER_TEXT,
	MEMBER_NUMERIC,
	MEMBER_INT8,
	MEMBER_FLOAT8,
	MEMBER_TIME,
	MEMBER_JSONB,
	MEMBER_METRIC,				/* value of a built-in metric */
	MEMBER_METRICS				/* values of the metrics of users */
} MemberKind;

typedef struct DocumentMember
{
	const char *name;			/* NULL: the column is not shown */
	MemberKind	kind;
	int			column;
	const char *metric;
} DocumentMember;

/* A row on its way into a document. */
typedef struct DocumentRow
{
	const Datum *values;
	const bool *nulls;
	TimestampTz as_of;
	PsWindow	window;
} DocumentRow;

#define MEMBER_OF_TEXT MEMBER_TEXT
#define MEMBER_OF_NUMERIC MEMBER_NUMERIC
#define MEMBER_OF_INT8 MEMBER_INT8
#define MEMBER_OF_TIME MEMBER_TIME
#define MEMBER_OF_NULLABLE_TIME MEMBER_TIME
#define MEMBER_OF_EVENT_COUNTS MEMBER_JSONB
#define MEMBER_OF_EVENT_IDS MEMBER_NONE
#define MEMBER_OF_WINDOW_STATE MEMBER_NONE
#define MEMBER_OF_ATTRIBUTES MEMBER_JSONB
#define MEMBER_OF_ATTRIBUTE_TIMES MEMBER_NONE
#define MEMBER_OF(column, kind, access, initial, member) {member, MEMBER_OF_##kind, PS_ROW_##column},

static DocumentMember members[] = {
	PS_PROFILE_COLUMNS(MEMBER_OF,)
	{"customerId", MEMBER_TEXT, PS_ROW_customer_id},
	{"segment", MEMBER_TEXT, PS_ROW_segment},
	{"churnRiskScore", MEMBER_FLOAT8, PS_ROW_churn_risk_score},
	{"lifetimeValue", MEMBER_NUMERIC, PS_ROW_lifetime_value},
	{"transactionCount30d", MEMBER_METRIC, 0, "transaction_count_30d"},
	{"totalTransactionValue30d", MEMBER_METRIC, 0, "total_transaction_value_30d"},
	{"loginCount7d", MEMBER_METRIC, 0, "login_count_7d"},
	{"metrics", MEMBER_METRICS}
};

static int
compare_members_by_name(const void *a, const void *b)
{
	const DocumentMember *x = a;
	const DocumentMember *y = b;

	if (x->name == NULL || y->name == NULL)
		return (x->name == NULL) - (y->name == NULL);
	return ps_jsonb_compare_keys(x->name, y->name);
}

/* jsonb has no NaN and no infinity: they become texts. */
static JsonbValue
of_numeric(Numeric number)
{
	char	   *name;

	if (!numeric_is_nan(number) && !numeric_is_inf(number))
		return ps_value_number(number);
	name = numeric_normalize(number);
	return ps_value_string(name, strlen(name));
}

/* As SQL turns it into jsonb: with the digits that it is printed with. */
static JsonbValue
of_float8(float8 number)
{
	char	   *digits;

	if (number == 0)
		return ps_value_number(int64_to_numeric(0));
	digits = DatumGetCString(DirectFunctionCall1(float8out, Float8GetDatum(number)));
	if (isnan(number) || isinf(number))
		return ps_value_string(digits, strlen(digits));
	return ps_value_number(DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(digits),
															   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))));
}

static JsonbValue
of_column(const DocumentMember *member, Datum datum)
{
	char	   *at;
	text	   *content;

	switch (member->kind)
	{
		case MEMBER_NUMERIC:
			return of_numeric(DatumGetNumeric(datum));
		case MEMBER_INT8:
			return ps_value_number(int64_to_numeric(DatumGetInt64(datum)));
		case MEMBER_FLOAT8:
			return of_float8(DatumGetFloat8(datum));
		case MEMBER_TIME:
			at = ps_format_timestamp(DatumGetTimestampTz(datum));
			return ps_value_string(at, strlen(at));
		case MEMBER_JSONB:
			return ps_value_jsonb(DatumGetJsonbP(datum));
		default:
			content = DatumGetTextPP(datum);
			return ps_value_string(VARDATA_ANY(content), VARSIZE_ANY_EXHDR(content));
	}
}

/* The values of all metrics that users have created. */
static JsonbValue
of_metrics(const DocumentRow *row, const text *customer_id)
{
	JsonbParseState *state = NULL;

	return ps_value_jsonb(JsonbValueToJsonb(ps_push_metric_values(&state, &row->window, customer_id, row->as_of, false)));
}

static JsonbValue
of_member(const DocumentRow *row, const DocumentMember *member)
{
	const text *customer_id = DatumGetTextPP(row->values[PS_ROW_customer_id]);
	JsonbValue	null = {.type = jbvNull};
	Numeric		number;

	if (member->kind == MEMBER_METRICS)
		return of_metrics(row, customer_id);
	if (member->kind != MEMBER_METRIC)
		return row->nulls[member->column] ? null : of_column(member, row->values[member->column]);
	number = ps_value_as_of(&row->window, ps_metric_find(NULL, member->metric), customer_id, row->as_of, false);
	return number == NULL ? null : of_numeric(number);
}

/* Sorts the members as jsonb does, and returns an object with their names. */
static const PsJsonbObject *
begin_document(int *nmembers)
{
	static PsJsonbObject begun;
	static int	n = 0;

	if (n == 0)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
		const char *names[lengthof(members)];
		int			shown = 0;

		qsort(members, lengthof(members), sizeof(DocumentMember), compare_members_by_name);
		while (shown < lengthof(members) && members[shown].name != NULL)
		{
			names[shown] = members[shown].name;
			shown++;
		}
		ps_jsonb_object_begin(&begun, names, shown);
		n = shown;
		MemoryContextSwitchTo(caller);
	}
	*nmembers = n;
	return &begun;
}

/* The document of a row. */
static Datum
document_of_row(const Datum *values, const bool *nulls, TimestampTz as_of)
{
	DocumentRow row = {.values = values,.nulls = nulls,.as_of = as_of};
	PsJsonbObject document;
	int			n;

	ps_check_moment(as_of);
	ps_load_window(&row.window, DatumGetByteaPP(values[PS_ROW_window_state]));
	ps_jsonb_object_copy(&document, begin_document(&n));
	for (int i = 0; i < n; i++)
	{
		JsonbValue	value = of_member(&row, &members[i]);

		ps_jsonb_object_add(&document, &value);
	}
	return JsonbPGetDatum(ps_jsonb_object_end(&document));
}

/* Raises unless a row has the columns of a profile. */
static void
check_row_type(TupleDesc desc)
{
	for (int i = 0; i < PS_ROW_ALL_COLUMNS; i++)
		if (i >= desc->natts || TupleDescAttr(desc, i)->atttypid != ps_profile_types[i])
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("the row is not of materialized_profiles as the extension made it")));
}

PG_FUNCTION_INFO_V1(ps_profile_document);
Datum
ps_profile_document(PG_FUNCTION_ARGS)
{
	HeapTupleHeader row = PG_GETARG_HEAPTUPLEHEADER(0);
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row),.t_data = row};
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(row), HeapTupleHeaderGetTypMod(row));
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));
	Datum		document;

	check_row_type(desc);
	heap_deform_tuple(&tuple, desc, values, nulls);
	document = document_of_row(values, nulls, PG_GETARG_TIMESTAMPTZ(1));
	ReleaseTupleDesc(desc);
	return document;
}

/* The document of one customer by a statement; 0: there is none. */
static Datum
select_document(Datum customer_id, TimestampTz as_of)
{
	ArrayType  *ids = construct_array(&customer_id, 1, TEXTOID, -1, false, TYPALIGN_INT);
	Datum		document = (Datum) 0;

	SPI_connect();
	if (ps_profile_documents_select(PointerGetDatum(ids), as_of) > 0)
	{
		ps_profile_documents_get(0, &customer_id, &document);
		document = SPI_datumTransfer(document, false, -1);
	}
	SPI_finish();
	return document;
}

PG_FUNCTION_INFO_V1(ps_get_profile);
Datum
ps_get_profile(PG_FUNCTION_ARGS)
{
	TimestampTz as_of = PG_GETARG_TIMESTAMPTZ(1);
	PsDirectReader reader;
	Datum		document = (Datum) 0;

	if (ps_profile_reader_open(&reader))
	{
		TupleTableSlot *row = ps_profile_reader_find(&reader, PG_GETARG_TEXT_PP(0));

		if (row != NULL)
			document = document_of_row(row->tts_values, row->tts_isnull, as_of);
		ps_direct_reader_close(&reader);
	}
	else
		document = select_document(PG_GETARG_DATUM(0), as_of);
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

static void
put_document(ReturnSetInfo *result, Datum customer_id, Datum document)
{
	Datum		values[2] = {customer_id, document};
	bool		nulls[2] = {false, false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Reads the profiles of sorted ids in one pass over the index, so that neighbours find its pages in the cache. */
static void
read_documents(PsDirectReader *reader, const Datum *ids, int n, TimestampTz as_of, ReturnSetInfo *result)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(caller, "profile document", ALLOCSET_DEFAULT_SIZES);

	for (int i = 0; i < n; i++)
	{
		TupleTableSlot *row;

		CHECK_FOR_INTERRUPTS();
		row = ps_profile_reader_find(reader, (const text *) DatumGetPointer(ids[i]));
		if (row == NULL)
			continue;
		MemoryContextSwitchTo(context);
		put_document(result, row->tts_values[PS_ROW_customer_id], document_of_row(row->tts_values, row->tts_isnull, as_of));
		MemoryContextSwitchTo(caller);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
}

PG_FUNCTION_INFO_V1(ps_get_profiles);
Datum
ps_get_profiles(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	TimestampTz as_of = PG_GETARG_TIMESTAMPTZ(1);
	PsDirectReader reader;
	Datum	   *ids;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (ps_profile_reader_open(&reader))
	{
		n = sort_ids(array, &ids);
		read_documents(&reader, ids, n, as_of, result);
		ps_direct_reader_close(&reader);
		return (Datum) 0;
	}
	SPI_connect();
	n = (int) ps_profile_documents_select(PointerGetDatum(array), as_of);
	for (int i = 0; i < n; i++)
	{
		Datum		customer_id;
		Datum		document;

		ps_profile_documents_get(i, &customer_id, &document);
		put_document(result, customer_id, document);
	}
	SPI_finish();
	return (Datum) 0;
}
