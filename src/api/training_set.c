/*
 * training_set.c
 *	  training_set(): metrics and tracked columns of customers, each as of a moment of its
 *	  own. The pairs come from a query, which runs with the caller's rights and may only read.
 *
 *	  Whether a value is there depends on the moment alone, and not on what came later:
 *	  otherwise that it is missing would tell the future.
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/as_of.h"
#include "api/metric_values.h"
#include "api/profile_document.h"
#include "catalog/pg_type.h"
#include "core/value.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "store/extension.h"
#include "store/history_catalog.h"
#include "store/plan.h"
#include "store/profile_row.h"
#include "store/rule_catalog.h"
#include "store/training_rows.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define PAIRS_AT_ONCE 1000

typedef struct TrainingSet
{
	const PsMetric **metrics;
	int			nmetrics;
	ReturnSetInfo *result;
	MemoryContext context;		/* of the pairs that are read at once */
} TrainingSet;

/* Finds the metrics that are named; null: all. */
static void
find_metrics(TrainingSet *set, ArrayType *array)
{
	const PsMetrics *of_users = &ps_rules_get()->metrics;
	Datum	   *names;
	bool	   *nulls;
	int			n;

	if (array == NULL)
	{
		const PsMetric *builtins = ps_metric_builtins(&n);

		set->metrics = palloc((n + of_users->nmetrics) * sizeof(PsMetric *));
		for (int i = 0; i < n; i++)
			set->metrics[set->nmetrics++] = &builtins[i];
		for (int i = 0; i < of_users->nmetrics; i++)
			set->metrics[set->nmetrics++] = &of_users->metrics[i];
		return;
	}
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &n);
	set->metrics = palloc(Max(n, 1) * sizeof(PsMetric *));
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			set->metrics[set->nmetrics++] = ps_find_metric(DatumGetTextPP(names[i]));
}

/* Raises unless the query returns pairs. */
static void
check_pairs(TupleDesc desc)
{
	if (desc != NULL && desc->natts == 2 && IsBinaryCoercible(TupleDescAttr(desc, 0)->atttypid, TEXTOID) &&
		TupleDescAttr(desc, 1)->atttypid == TIMESTAMPTZOID)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("the query must return a customer's id of type text and a moment of type timestamptz"),
			 errhint("Write SELECT customer_id::text, moment::timestamptz FROM ...")));
}

/* Opens the query. It is one statement that returns rows and writes nothing. */
static Portal
open_query(const char *query)
{
	SPIPlanPtr	plan = SPI_prepare(query, 0, NULL);
	Portal		portal;

	if (plan == NULL)
		elog(ERROR, "could not prepare the query: %s", SPI_result_code_string(SPI_result));
	if (!SPI_is_cursor_plan(plan))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the query must be one SELECT")));
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	check_pairs(portal->tupDesc);
	return portal;
}

static JsonbValue
of_training_metrics(const TrainingSet *set, bytea *state, const text *customer_id, TimestampTz at)
{
	JsonbParseState *parse = NULL;
	PsWindow	window;

	ps_load_window(&window, state);
	(void) pushJsonbValue(&parse, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < set->nmetrics; i++)
	{
		const PsMetric *metric = set->metrics[i];
		JsonbValue	key = ps_value_string(metric->name, strlen(metric->name));
		Numeric		number = ps_value_as_of(&window, metric, customer_id, at, false);
		JsonbValue	value = {.type = jbvNull};

		if (number != NULL)
			value = ps_value_number(number);
		(void) pushJsonbValue(&parse, WJB_KEY, &key);
		(void) pushJsonbValue(&parse, WJB_VALUE, &value);
	}
	return ps_value_jsonb(JsonbValueToJsonb(pushJsonbValue(&parse, WJB_END_OBJECT, NULL)));
}

/* What is tracked and told by the history at the moment, by name. */
static Jsonb *
of_tracked(const PsAsOf *as_of, const Datum *values, const bool *nulls, const Jsonb *old)
{
	JsonbParseState *parse = NULL;

	(void) pushJsonbValue(&parse, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < as_of->tracked->nnames; i++)
	{
		const PsTrackedName *name = &as_of->tracked->names[i];
		JsonbValue	key = ps_value_string(name->name, strlen(name->name));
		JsonbValue	value;

		if (!ps_as_of_reaches(as_of, name))
			continue;
		value = ps_document_value_at(values, nulls, old, name);
		(void) pushJsonbValue(&parse, WJB_KEY, &key);
		(void) pushJsonbValue(&parse, WJB_VALUE, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&parse, WJB_END_OBJECT, NULL));
}

/* Adds the row of a pair; number is that of the pair among those that were read at once. */
static void
put_pair(TrainingSet *set, Datum customer_id, TimestampTz at, uint64 number)
{
	PsAsOf		as_of = ps_as_of_moment(at);
	bytea	   *no_state = (bytea *) cstring_to_text("");
	Datum	   *values;
	bool	   *nulls;
	const Jsonb *old;
	bool		known = ps_training_rows_get(number, &values, &nulls, &old);
	bytea	   *state = known ? DatumGetByteaPP(values[PS_ROW_window_state]) : no_state;
	JsonbValue	metrics = of_training_metrics(set, state, DatumGetTextPP(customer_id), at);
	Datum		row[4] = {customer_id, TimestampTzGetDatum(at), PointerGetDatum(JsonbValueToJsonb(&metrics))};
	bool		none[4] = {false, false, false, true};

	if (known && DatumGetTimestampTz(values[PS_ROW_first_event_at]) <= at)
	{
		row[3] = JsonbPGetDatum(of_tracked(&as_of, values, nulls, old));
		none[3] = false;
	}
	tuplestore_putvalues(set->result->setResult, set->result->setDesc, row, none);
}

/* Reads the next pairs of the query, and adds their rows; false: there are none. */
static bool
put_next_pairs(TrainingSet *set, Portal portal)
{
	MemoryContext caller = MemoryContextSwitchTo(set->context);
	PsColumn	ids;
	PsColumn	moments;
	int			n;

	SPI_cursor_fetch(portal, true, PAIRS_AT_ONCE);
	n = (int) SPI_processed;
	MemoryContextSwitchTo(set->context);
	ps_column_init(&ids, TEXTOID, n);
	ps_column_init(&moments, TIMESTAMPTZOID, n);
	for (int i = 0; i < n; i++)
	{
		bool		nulls[2];
		Datum		id = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &nulls[0]);
		Datum		at = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &nulls[1]);

		if (nulls[0] || nulls[1])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("the query returned a null"),
					 errhint("Leave out pairs that have no customer or no moment.")));
		ps_column_add(&ids, PointerGetDatum(PG_DETOAST_DATUM_COPY(id)));
		ps_column_add(&moments, at);
	}
	SPI_freetuptable(SPI_tuptable);
	if (n > 0)
		ps_training_rows_select(ps_column_array(&ids), ps_column_array(&moments), ps_history_tracked()->nnames > 0);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		put_pair(set, ids.values[i], DatumGetTimestampTz(moments.values[i]), i);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextReset(set->context);
	return n > 0;
}

/* Runs the query, in a transaction that is read-only meanwhile, also for functions that it calls. */
static void
run_query(TrainingSet *set, const char *query)
{
	bool		was_read_only = XactReadOnly;
	Portal		portal;

	XactReadOnly = true;		/* an error ends the transaction or subtransaction, which sets it back */
	SPI_connect();
	portal = open_query(query);
	while (put_next_pairs(set, portal))
		;
	SPI_cursor_close(portal);
	SPI_finish();
	XactReadOnly = was_read_only;
}

PS_FUNCTION(ps_training_set);
static Datum
ps_training_set_checked(PG_FUNCTION_ARGS)
{
	TrainingSet set = {.result = (ReturnSetInfo *) fcinfo->resultinfo};

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	set.context = AllocSetContextCreate(CurrentMemoryContext, "training set", ALLOCSET_DEFAULT_SIZES);
	(void) ps_rules_hold();
	PG_TRY();
	{
		find_metrics(&set, PG_ARGISNULL(1) ? NULL : PG_GETARG_ARRAYTYPE_P(1));
		run_query(&set, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	}
	PG_FINALLY();
	{
		ps_rules_release();
	}
	PG_END_TRY();
	return (Datum) 0;
}
