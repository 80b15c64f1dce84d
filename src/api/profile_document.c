/*
 * profile_document.c
 *	  The row of a profile as a document. A document of a moment that the caller named
 *	  says which moment that is, and which members are newer.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "api/metric_values.h"
#include "api/profile_document.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "core/document.h"
#include "core/iso8601.h"
#include "core/jsonb_object.h"
#include "core/seed.h"
#include "core/value.h"
#include "fmgr.h"
#include "store/extension.h"
#include "store/profile_row.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
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
	MEMBER_METRICS,				/* values of the metrics of users */
	MEMBER_MOMENT,				/* the moment that was named */
	MEMBER_CURRENT				/* names of the members that are newer than that moment */
} MemberKind;

/* What changes a member. */
typedef enum MemberSource
{
	FROM_NOTHING,				/* nothing does, or its value is computed for any moment */
	FROM_EVENTS,
	FROM_SCORES
} MemberSource;

typedef struct DocumentMember
{
	const char *name;			/* NULL: the column is not shown */
	MemberKind	kind;
	int			column;
	MemberSource source;
	const char *column_name;
	const char *metric;
} DocumentMember;

/* A row on its way into a document. */
typedef struct DocumentRow
{
	const Datum *values;
	const bool *nulls;
	const PsAsOf *as_of;
	const Jsonb *old;			/* what has changed since the moment; NULL: nothing, or nothing is known */
	bool		has_changed[FROM_SCORES + 1];	/* by source */
	PsNames		current;
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
#define MEMBER_OF_SEGMENT_STATE MEMBER_NONE
#define MEMBER_OF(column, kind, access, initial, member) {member, MEMBER_OF_##kind, PS_ROW_##column, FROM_EVENTS, #column},

static DocumentMember members[] = {
	PS_PROFILE_COLUMNS(MEMBER_OF,)
	{"customerId", MEMBER_TEXT, PS_ROW_customer_id},
	{"segment", MEMBER_TEXT, PS_ROW_segment, FROM_SCORES, "segment"},
	{"churnRiskScore", MEMBER_FLOAT8, PS_ROW_churn_risk_score, FROM_SCORES, "churn_risk_score"},
	{"lifetimeValue", MEMBER_NUMERIC, PS_ROW_lifetime_value, FROM_SCORES, "lifetime_value"},
	{"transactionCount30d", MEMBER_METRIC,.metric = "transaction_count_30d"},
	{"totalTransactionValue30d", MEMBER_METRIC,.metric = "total_transaction_value_30d"},
	{"loginCount7d", MEMBER_METRIC,.metric = "login_count_7d"},
	{"metrics", MEMBER_METRICS},
	{"asOf", MEMBER_MOMENT},
	{"currentMembers", MEMBER_CURRENT}
};

/* Whether the document has a member only when a moment was named. */
static bool
is_of_named(const DocumentMember *member)
{
	return member->kind == MEMBER_MOMENT || member->kind == MEMBER_CURRENT;
}

static int
compare_members_by_name(const void *a, const void *b)
{
	const DocumentMember *x = a;
	const DocumentMember *y = b;

	if (x->name == NULL || y->name == NULL)
		return (x->name == NULL) - (y->name == NULL);
	return ps_jsonb_compare_keys(x->name, strlen(x->name), y->name, strlen(y->name));
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
of_moment(TimestampTz time)
{
	char	   *iso = ps_format_timestamp(time);

	return ps_value_string(iso, strlen(iso));
}

static JsonbValue
of_column(const DocumentMember *member, Datum datum)
{
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
			return of_moment(DatumGetTimestampTz(datum));
		case MEMBER_JSONB:
			return ps_value_jsonb(DatumGetJsonbP(datum));
		default:
			content = DatumGetTextPP(datum);
			if (member->source != FROM_EVENTS)
				return ps_value_string(VARDATA_ANY(content), VARSIZE_ANY_EXHDR(content));
			/* the list of columns begins behind customer_id */
			return ps_document_text(&ps_profile_columns[member->column - 1], VARDATA_ANY(content), VARSIZE_ANY_EXHDR(content));
	}
}

/* The values of all metrics that users have created. */
static JsonbValue
of_metrics(const DocumentRow *row, const text *customer_id)
{
	JsonbParseState *state = NULL;

	return ps_value_jsonb(JsonbValueToJsonb(ps_push_metric_values(&state, &row->window, customer_id, row->as_of->at, false)));
}

static JsonbValue
of_metric(const DocumentRow *row, const text *customer_id, const char *name)
{
	JsonbValue	null = {.type = jbvNull};
	Numeric		number = ps_value_as_of(&row->window, ps_metric_find(NULL, name), customer_id, row->as_of->at, false);

	return number == NULL ? null : of_numeric(number);
}

bool
ps_row_has_later_events(const Datum *values, const bool *nulls, const PsAsOf *as_of)
{
	return DatumGetTimestampTz(values[PS_ROW_watermark]) > as_of->at;
}

bool
ps_row_has_later_scores(const Datum *values, const bool *nulls, const PsAsOf *as_of)
{
	if (!nulls[PS_ROW_scored_at] && DatumGetTimestampTz(values[PS_ROW_scored_at]) > as_of->at)
		return true;
	/* an event of another system may have brought them */
	return ps_row_has_later_events(values, nulls, as_of) &&
		ps_as_of_old(DatumGetJsonbP(values[PS_ROW_event_counts]), PS_SEEDED, strlen(PS_SEEDED)) != NULL;
}

/* The value of a member that has changed since the moment: that of then, or else that of now, whose name is added to the current ones. */
static JsonbValue
of_changed(DocumentRow *row, const DocumentMember *member)
{
	JsonbValue	null = {.type = jbvNull};
	JsonbValue *then = NULL;
	Datum		stored = row->values[member->column];

	if (member->column == PS_ROW_attributes)
		return ps_value_jsonb(ps_as_of_attributes(row->as_of, DatumGetJsonbP(stored), row->old, &row->current));
	if (ps_as_of_has(row->as_of, member->column_name))
		then = ps_as_of_old(row->old, member->column_name, strlen(member->column_name));
	else
		ps_names_add(&row->current, member->name);
	if (then != NULL)
		return *then;
	return row->nulls[member->column] ? null : of_column(member, stored);
}

static JsonbValue
of_member(DocumentRow *row, const DocumentMember *member)
{
	const text *customer_id = DatumGetTextPP(row->values[PS_ROW_customer_id]);
	JsonbValue	null = {.type = jbvNull};

	switch (member->kind)
	{
		case MEMBER_METRICS:
			return of_metrics(row, customer_id);
		case MEMBER_METRIC:
			return of_metric(row, customer_id, member->metric);
		case MEMBER_MOMENT:
			return of_moment(row->as_of->at);
		case MEMBER_CURRENT:
			return ps_value_jsonb(ps_names_jsonb(&row->current));
		default:
			if (row->has_changed[member->source])
				return of_changed(row, member);
			return row->nulls[member->column] ? null : of_column(member, row->values[member->column]);
	}
}

/* Sorts the members as jsonb does, once; returns how many are shown. */
static int
begin_members(void)
{
	static int	n = 0;

	if (n == 0)
	{
		qsort(members, lengthof(members), sizeof(DocumentMember), compare_members_by_name);
		while (n < lengthof(members) && members[n].name != NULL)
			n++;
	}
	return n;
}

/* An object with the names of the members, but no values. */
static const PsJsonbObject *
begin_document(bool is_named, int n)
{
	static PsJsonbObject begun[2];

	if (begun[is_named].npairs == 0)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
		int			shown = 0;

		for (int i = 0; i < n; i++)
			shown += is_named || !is_of_named(&members[i]);
		ps_jsonb_object_begin(&begun[is_named], shown);
		for (int i = 0; i < n; i++)
			if (is_named || !is_of_named(&members[i]))
				ps_jsonb_object_key(&begun[is_named], members[i].name, strlen(members[i].name));
		MemoryContextSwitchTo(caller);
	}
	return &begun[is_named];
}

Datum
ps_document_of_row(const Datum *values, const bool *nulls, const PsAsOf *as_of, const Jsonb *old)
{
	DocumentRow row = {.values = values,.nulls = nulls,.as_of = as_of,.old = old};
	PsJsonbObject document;
	JsonbValue	shown[lengthof(members)];
	int			n = begin_members();

	ps_load_window(&row.window, DatumGetByteaPP(values[PS_ROW_window_state]));
	if (as_of->is_named)
	{
		row.has_changed[FROM_EVENTS] = ps_row_has_later_events(values, nulls, as_of);
		row.has_changed[FROM_SCORES] = ps_row_has_later_scores(values, nulls, as_of);
	}
	ps_jsonb_object_copy(&document, begin_document(as_of->is_named, n));
	/* the names of current members are known when all others have their values */
	for (int i = 0; i < n; i++)
		if (!is_of_named(&members[i]))
			shown[i] = of_member(&row, &members[i]);
	for (int i = 0; i < n; i++)
	{
		if (is_of_named(&members[i]))
		{
			if (!as_of->is_named)
				continue;
			shown[i] = of_member(&row, &members[i]);
		}
		ps_jsonb_object_add(&document, &shown[i]);
	}
	return JsonbPGetDatum(ps_jsonb_object_end(&document));
}

/* All attributes at a moment to which their history reaches. */
static JsonbValue
all_attributes_at(Jsonb *stored, const Jsonb *old)
{
	PsTrackedName all = {.name = PS_ALL_ATTRIBUTES,.kind = PS_TRACKED_ATTRIBUTES,.since = DT_NOBEGIN};
	PsTracked	tracked = {.names = &all,.nnames = 1};
	PsAsOf		as_of = {.tracked = &tracked,.kept_from = DT_NOBEGIN};
	PsNames		none = {0};

	return ps_value_jsonb(ps_as_of_attributes(&as_of, stored, old, &none));
}

JsonbValue
ps_document_value_at(const Datum *values, const bool *nulls, const Jsonb *old, const PsTrackedName *name)
{
	JsonbValue	null = {.type = jbvNull};
	Jsonb	   *attributes = DatumGetJsonbP(values[PS_ROW_attributes]);
	JsonbValue *found;
	const char *key = name->kind == PS_TRACKED_ATTRIBUTE ? psprintf(PS_ATTRIBUTE_KEY "%s", name->name) : name->name;
	int			n = begin_members();

	if (name->kind == PS_TRACKED_ATTRIBUTES)
		return all_attributes_at(attributes, old);
	found = ps_as_of_old(old, key, strlen(key));
	if (found == NULL && name->kind == PS_TRACKED_ATTRIBUTE)
		found = ps_as_of_old(attributes, name->name, strlen(name->name));
	if (found != NULL || name->kind == PS_TRACKED_ATTRIBUTE)
		return found != NULL ? *found : null;
	for (int i = 0; i < n; i++)
		if (members[i].column_name != NULL && strcmp(members[i].column_name, name->name) == 0 && !nulls[members[i].column])
			return of_column(&members[i], values[members[i].column]);
	return null;
}

/* Raises unless a row has the columns of a profile. */
static void
check_row_type(TupleDesc desc)
{
	for (int i = 0; i < PS_ROW_ALL_COLUMNS; i++)
		if (i >= desc->natts || TupleDescAttr(desc, i)->atttypid != ps_profile_types[i])
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("the row does not have the columns of materialized_profiles"),
					 errhint("Change the columns of the table back to their original types.")));
}

/* Raises when a row lacks what each row of the table has: anybody can make a value of its type. */
static void
check_row_values(TupleDesc desc, const bool *nulls)
{
	static const int present[] = {PS_ROW_customer_id, PS_ROW_watermark, PS_ROW_window_state, PS_ROW_attributes, PS_ROW_event_counts};

	for (int i = 0; i < lengthof(present); i++)
		if (nulls[present[i]])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("column \"%s\" of the row must not be null", NameStr(TupleDescAttr(desc, present[i])->attname)),
					 errhint("Pass a row of materialized_profiles.")));
}

/* Takes a row of the table apart. */
static void
deform_row(HeapTupleHeader row, Datum **values, bool **nulls)
{
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row),.t_data = row};
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(row), HeapTupleHeaderGetTypMod(row));

	*values = palloc(desc->natts * sizeof(Datum));
	*nulls = palloc(desc->natts * sizeof(bool));
	check_row_type(desc);
	heap_deform_tuple(&tuple, desc, *values, *nulls);
	check_row_values(desc, *nulls);
	ReleaseTupleDesc(desc);
}

PS_FUNCTION(ps_profile_document);
static Datum
ps_profile_document_checked(PG_FUNCTION_ARGS)
{
	PsAsOf		as_of = {.at = PG_GETARG_TIMESTAMPTZ(1)};
	Datum	   *values;
	bool	   *nulls;

	ps_check_moment(as_of.at);
	deform_row(PG_GETARG_HEAPTUPLEHEADER(0), &values, &nulls);
	return ps_document_of_row(values, nulls, &as_of, NULL);
}

PS_FUNCTION(ps_profile_document_at);
static Datum
ps_profile_document_at_checked(PG_FUNCTION_ARGS)
{
	PsAsOf		as_of;
	Datum	   *values;
	bool	   *nulls;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	as_of = ps_as_of_argument(fcinfo, 1);
	deform_row(PG_GETARG_HEAPTUPLEHEADER(0), &values, &nulls);
	return ps_document_of_row(values, nulls, &as_of, PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2));
}
