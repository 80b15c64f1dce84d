/*
 * plan.c
 *	  Kept SPI plans and array arguments, for every other file of the store.
 *
 *	  Statements of a batch join unnest(array) with an indexed table. The cost of a row
 *	  must not grow with the table. But the planner does not know the length of the array,
 *	  nor how old the statistics are. So these statements always get generic
 *	  plans without sequential scans, hash joins and merge joins.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "nodes/params.h"
#include "nodes/parsenodes.h"
#include "parser/parse_coerce.h"
#include "store/distributed.h"
#include "store/owner.h"
#include "store/plan.h"
#include "store/rebuild_schema.h"
#include "store/resolve.h"
#include "store/shard_names.h"
#include "store/shards.h"
#include "store/xact.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Sets a safe search_path, until the nest level ends: the caller's could make operators mean something else. */
static void
set_path(void)
{
	static const char safe[] = "pg_catalog, pg_temp";

	if (strcmp(namespace_search_path, safe) != 0)
		ps_guc_set_nested("search_path", safe);
}

/* Forbids plans whose cost depends on the size of the table, until the nest level ends. */
static void
forbid_scans(void)
{
	/* jit: because the length of the array is unknown, the estimated cost is high enough to compile the plan */
	static const char *const settings[] = {"enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"};

	for (int i = 0; i < lengthof(settings); i++)
		ps_guc_set_nested(settings[i], "off");
}

/* Raises when a statement would need all rows of a table that is distributed. */
static void
check_shard(const char *sql)
{
	PsSharded	table;

	if (ps_shard_names_missing(sql, &table))
		ps_distributed_refuse_table(table);
}

/* A plan of a statement on the tables of one shard. */
struct PsShardPlan
{
	PsShardPlan *next;
	int64		shard_id;
	SPIPlanPtr	plan;
};

/* The place of the plan for the tables that the statement means now: those of the rebuild schema, or of a shard. */
static SPIPlanPtr *
kept_plan(PsPlan *plan)
{
	PsSharded	table;
	PsShardPlan *kept;
	int64		id;

	check_shard(plan->sql);
	if (ps_shards_used() == PS_NO_SHARD || !ps_shard_names_find(plan->sql, &table))
		return &plan->plan;
	id = ps_shards_id(ps_shards_used(), table);
	for (kept = plan->of_shards; kept != NULL; kept = kept->next)
		if (kept->shard_id == id)
			return &kept->plan;
	kept = MemoryContextAllocZero(TopMemoryContext, sizeof(PsShardPlan));
	kept->shard_id = id;
	kept->next = plan->of_shards;
	plan->of_shards = kept;
	return &kept->plan;
}

/* The text of a statement, with the tables that this process works on and its arrays. */
static const char *
plan_text(const PsPlan *plan)
{
	const char *sql = ps_shard_names_sql(plan->fixed_schema ? plan->sql : ps_rebuild_schema_sql(plan->sql));
	const char *place = strstr(sql, PS_PLAN_ARRAYS);
	StringInfoData text;

	if (place == NULL)
		return sql;
	initStringInfo(&text);
	appendBinaryStringInfo(&text, sql, place - sql);
	for (int i = plan->first_array; i <= plan->nargs; i++)
		appendStringInfo(&text, "%spg_catalog.unnest($%d)", i > plan->first_array ? ", " : "", i);
	appendStringInfoString(&text, place + strlen(PS_PLAN_ARRAYS));
	return text.data;
}

/*
 * Raises when a rule replaces a statement. Forgets the plan too: after DO INSTEAD
 * NOTHING it is empty, depends on no table, and would not notice that the rule is
 * dropped.
 */
static void
complain_of_rule(const PsPlan *plan, SPIPlanPtr *kept)
{
	SPI_freeplan(*kept);
	*kept = NULL;
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
			 errmsg("a rule replaces a statement of profile_stream"),
			 errdetail("The statement is \"%s\".", plan_text(plan)),
			 errhint("Drop the rule from the table.")));
}

/* Prepares the statement and keeps it. If the caller's rights count, only the names in it are looked up with the owner's rights. */
static SPIPlanPtr
plan_prepare(PsPlan *plan, bool read_only)
{
	const char *sql = plan_text(plan);
	SPIPlanPtr	prepared;

	if (read_only)
		prepared = SPI_prepare_params(sql, ps_resolve_begin, plan, CURSOR_OPT_GENERIC_PLAN);
	else
		prepared = SPI_prepare_cursor(sql, plan->nargs, plan->argtypes, CURSOR_OPT_GENERIC_PLAN);
	if (prepared == NULL || SPI_keepplan(prepared) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	return prepared;
}

/* The arguments, none of them null, of a statement that was prepared with ps_resolve_begin(). */
static ParamListInfo
make_params(const PsPlan *plan, const Datum *args)
{
	ParamListInfo params = makeParamList(plan->nargs);

	for (int i = 0; i < plan->nargs; i++)
	{
		params->params[i].value = args[i];
		params->params[i].isnull = false;
		params->params[i].pflags = PARAM_FLAG_CONST;
		params->params[i].ptype = plan->argtypes[i];
	}
	return params;
}

/*
 * Runs a statement within the caller's SPI connection, and prepares it on first
 * use. A read-only statement has the caller's rights, so that row security applies.
 * All others run with the rights of the tables' owner.
 */
static uint64
plan_run(PsPlan *plan, Datum *args, const char *nulls, bool read_only, int expected)
{
	MemoryContext caller = CurrentMemoryContext;
	int			result;
	int			nest_level = NewGUCNestLevel();
	PsSavedUser saved = {0};
	SPIPlanPtr *kept = kept_plan(plan);

	if (!read_only)
		saved = plan->only ? ps_switch_to_owner_for(ps_rebuild_schema_used(), plan->only) : ps_switch_to_owner();
	else
		ps_distributed_check(InvalidOid);
	set_path();
	forbid_scans();
	if (*kept == NULL)
		*kept = plan_prepare(plan, read_only);
	if (read_only)
		result = SPI_execute_plan_with_paramlist(*kept, make_params(plan, args), true, 0);
	else if (plan->latest)
		result = SPI_execute_snapshot(*kept, args, nulls, GetActiveSnapshot(), InvalidSnapshot, expected == SPI_OK_SELECT, expected != SPI_OK_SELECT, 0);
	else
		result = SPI_execute_plan(*kept, args, nulls, false, 0);
	if (result == SPI_OK_REWRITTEN)
		complain_of_rule(plan, kept);
	if (result != expected)
		elog(ERROR, "unexpected result %s of \"%s\"", SPI_result_code_string(result), plan_text(plan));
	AtEOXact_GUC(true, nest_level);
	if (!read_only)
	{
		ps_distributed_check(plan->only ? ps_own_table(ps_rebuild_schema_used(), plan->only) : InvalidOid);
		ps_restore_user(saved);
	}
	MemoryContextSwitchTo(caller);	/* SPI has switched to its own */
	return SPI_processed;
}

uint64
ps_plan_run(PsPlan *plan, Datum *args, const char *nulls, int expected)
{
	return plan_run(plan, args, nulls, false, expected);
}

void
ps_plan_write(PsPlan *plan, Datum *args, const char *nulls, int expected, uint64 nrows, const char *table)
{
	uint64		written = plan_run(plan, args, nulls, false, expected);

	if (written < nrows)
		ps_plan_complain(table, nrows - written, nrows);
}

void
ps_plan_complain(const char *table, uint64 missing, uint64 nrows)
{
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
			 errmsg(UINT64_FORMAT " of " UINT64_FORMAT " rows of table %s were not written", missing, nrows, table),
			 errhint("Look for a trigger, a rule or a policy of the table that leaves rows out.")));
}

uint64
ps_plan_read(PsPlan *plan, Datum *args)
{
	return plan_run(plan, args, NULL, true, SPI_OK_SELECT);
}

char *
ps_plan_text(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

PsTextSet
ps_plan_texts(uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	if (isnull)
		return (PsTextSet)
	{
		0
	};
	return ps_text_set_of_array(value);
}

PsTextSet
ps_text_set_of_array(Datum array)
{
	Datum	   *elements;
	const char **texts;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
	texts = palloc(Max(n, 1) * sizeof(char *));
	for (int i = 0; i < n; i++)
		texts[i] = TextDatumGetCString(elements[i]);
	return ps_text_set_make(texts, n);
}

Datum
ps_text_set_array(const PsTextSet *set)
{
	PsColumn	column;

	ps_column_init(&column, TEXTOID, set->n);
	for (int i = 0; i < set->n; i++)
		ps_column_add_text(&column, set->texts[i]);
	return ps_column_array(&column);
}

int64
ps_plan_number(PsPlan *plan, Datum *args)
{
	bool		isnull;
	int64		number;

	(void) ps_plan_run(plan, args, NULL, SPI_OK_SELECT);
	number = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return number;
}

uint64
ps_plan_run_filtered(const char *sql, int nargs, const Oid *types, const Datum *args, const char *nulls, bool read_only)
{
	MemoryContext caller = CurrentMemoryContext;
	int			nest_level = NewGUCNestLevel();
	PsSavedUser saved = {0};
	int			result;

	check_shard(sql);
	sql = ps_shard_names_sql(sql);
	if (!read_only)
		saved = ps_switch_to_owner();
	else
		ps_distributed_check(InvalidOid);
	set_path();
	result = SPI_execute_with_args(sql, nargs, unconstify(Oid *, types), unconstify(Datum *, args), nulls, read_only, 0);
	if (result < 0)
		elog(ERROR, "unexpected result %s of \"%s\"", SPI_result_code_string(result), sql);
	AtEOXact_GUC(true, nest_level);
	if (!read_only)
	{
		ps_distributed_check(InvalidOid);
		ps_restore_user(saved);
	}
	MemoryContextSwitchTo(caller);
	return SPI_processed;
}

uint64
ps_plan_run_once(const char *sql, int nargs, const Oid *types, Datum *args, bool read_only)
{
	return ps_plan_run_filtered(sql, nargs, types, args, NULL, read_only);
}

void
ps_plan_check_types(const Oid *types, int n)
{
	for (int i = 0; i < n; i++)
	{
		Form_pg_attribute column = TupleDescAttr(SPI_tuptable->tupdesc, i);

		if (!IsBinaryCoercible(column->atttypid, types[i]))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" has type %s, not %s", NameStr(column->attname),
							format_type_be(column->atttypid), format_type_be(types[i])),
					 errhint("Change the column back to its original type.")));
	}
}

void
ps_plan_check_filled(const bool *nulls, int n, const char *what)
{
	for (int i = 0; i < n; i++)
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("%s: a value is missing", what),
					 errhint("Somebody has written the table, or a dump that was restored. rebuild() makes it anew from the topic.")));
}

/* Begins an array with room for capacity values. */
void
ps_column_init(PsColumn *column, Oid type, int capacity)
{
	column->type = type;
	column->n = 0;
	column->values = palloc(Max(capacity, 1) * sizeof(Datum));
	column->nulls = palloc(Max(capacity, 1) * sizeof(bool));
}

void
ps_column_add(PsColumn *column, Datum value)
{
	column->values[column->n] = value;
	column->nulls[column->n++] = false;
}

void
ps_column_add_null(PsColumn *column)
{
	column->values[column->n] = (Datum) 0;
	column->nulls[column->n++] = true;
}

/* Adds a text; NULL becomes null. */
void
ps_column_add_text(PsColumn *column, const char *text)
{
	if (text == NULL)
		ps_column_add_null(column);
	else
		ps_column_add(column, CStringGetTextDatum(text));
}

/* Adds a bytea; NULL becomes null. */
void
ps_column_add_bytes(PsColumn *column, const char *bytes, int len)
{
	if (bytes == NULL)
		ps_column_add_null(column);
	else
		ps_column_add(column, PointerGetDatum(cstring_to_text_with_len(bytes, len)));
}

/* Adds a timestamp; DT_NOBEGIN becomes null. */
void
ps_column_add_time(PsColumn *column, TimestampTz at)
{
	if (TIMESTAMP_IS_NOBEGIN(at))
		ps_column_add_null(column);
	else
		ps_column_add(column, TimestampTzGetDatum(at));
}

/* The array of all values added. */
Datum
ps_column_array(const PsColumn *column)
{
	int			dims[1] = {column->n};
	int			lower[1] = {1};
	int16		typlen;
	bool		typbyval;
	char		typalign;

	switch (column->type)
	{
		case BOOLOID:
			typlen = 1, typbyval = true, typalign = TYPALIGN_CHAR;
			break;
		case INT4OID:
			typlen = 4, typbyval = true, typalign = TYPALIGN_INT;
			break;
		case INT8OID:
		case TIMESTAMPTZOID:
		case FLOAT8OID:
			typlen = 8, typbyval = true, typalign = TYPALIGN_DOUBLE;
			break;
		default:				/* text, bytea, numeric, jsonb and text[] are varlena */
			typlen = -1, typbyval = false, typalign = TYPALIGN_INT;
			break;
	}
	return PointerGetDatum(construct_md_array(column->values, column->nulls, 1, dims, lower,
											  column->type, typlen, typbyval, typalign));
}
