/*
 * table_sizes.c
 *	  How large a table is, for stat_storage. Citus hides shards from queries of pg_class.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "store/extension.h"
#include "store/distributed.h"
#include "store/shard_names.h"
#include "store/shards.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

enum
{
	TABLE_BYTES, INDEX_BYTES, ROWS, OLD_VERSIONS, AUTOVACUUMED_AT, COLUMNS
};

/* The relation itself, or where distribute() distributed it its shards that are on this node: a list of OIDs. */
static List *
find_tables(Oid relid)
{
	const char *name = get_rel_name(relid);
	List	   *result = NIL;

	if (name == NULL || !ps_distributed() || !ps_distributed_by_us(relid))
		return list_make1_oid(relid);
	for (int shard = 0; shard < ps_shards_count(); shard++)
	{
		Oid			table;

		if (!ps_shards_is_here(shard))
			continue;
		table = ps_shard_names_relation(shard, relid, name);
		if (OidIsValid(table))
			result = lappend_oid(result, table);
	}
	return result;
}

/* A number that a function of the server tells of a relation; false: none. */
static bool
ask_server(Oid function, Oid relid, int64 *number)
{
	FmgrInfo	flinfo;

	LOCAL_FCINFO(fcinfo, 1);
	Datum		value;

	fmgr_info(function, &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(relid);
	fcinfo->args[0].isnull = false;
	value = FunctionCallInvoke(fcinfo);
	if (!fcinfo->isnull)
		*number = DatumGetInt64(value);
	return !fcinfo->isnull;
}

/* How many rows the last VACUUM or ANALYZE counted; false: none has yet. */
static bool
count_rows(Oid relid, int64 *number)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		known = HeapTupleIsValid(tuple) && ((Form_pg_class) GETSTRUCT(tuple))->reltuples >= 0;

	if (known)
		*number = (int64) ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return known;
}

/* Adds a number, if it is known, to a sum. */
static void
add_known(Datum *sum, bool *isnull, bool known, const int64 *number)
{
	if (!known)
		return;
	*sum = Int64GetDatum((*isnull ? 0 : DatumGetInt64(*sum)) + *number);
	*isnull = false;
}

PS_FUNCTION(ps_table_sizes);
static Datum
ps_table_sizes_checked(PG_FUNCTION_ARGS)
{
	Datum		values[COLUMNS] = {0};
	bool		nulls[COLUMNS];
	TupleDesc	desc;
	ListCell   *cell;

	memset(nulls, true, sizeof(nulls));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "table_sizes() returns a row");
	foreach(cell, find_tables(PG_GETARG_OID(0)))
	{
		Oid			relid = lfirst_oid(cell);
		int64		number = 0;

		add_known(&values[TABLE_BYTES], &nulls[TABLE_BYTES], ask_server(F_PG_TABLE_SIZE, relid, &number), &number);
		add_known(&values[INDEX_BYTES], &nulls[INDEX_BYTES], ask_server(F_PG_INDEXES_SIZE, relid, &number), &number);
		add_known(&values[ROWS], &nulls[ROWS], count_rows(relid, &number), &number);
		add_known(&values[OLD_VERSIONS], &nulls[OLD_VERSIONS], ask_server(F_PG_STAT_GET_DEAD_TUPLES, relid, &number), &number);
		if (ask_server(F_PG_STAT_GET_LAST_AUTOVACUUM_TIME, relid, &number) &&
			(nulls[AUTOVACUUMED_AT] || DatumGetTimestampTz(values[AUTOVACUUMED_AT]) < number))
		{
			values[AUTOVACUUMED_AT] = TimestampTzGetDatum(number);
			nulls[AUTOVACUUMED_AT] = false;
		}
	}
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}
