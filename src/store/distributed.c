/*
 * distributed.c
 *	  Reads Citus' catalogue of distributed tables, which every node has, and which
 *	  also contains tables whose shards are on other nodes. Without Citus this costs
 *	  one look-up in the syscache.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace_d.h"
#include "settings.h"
#include "store/distributed.h"
#include "store/rebuild_schema.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#define CATALOGUE "pg_dist_partition"
#define TABLE_COLUMN "logicalrelid"
#define TABLE_INDEX "pg_dist_partition_logical_relid_index"

static const char *const tables[] = {
	"materialized_profiles", "event_id_chunks", "window_chunks", "dead_letters", "streams", "stream_offsets", "stream_status",
	"outbox", "sink_pending", "sink_status", "blocked_customers", "attribute_maps", "metrics", "segments", "segment_members"
};

/* Whether a table is in the catalogue. */
static bool
has_table(Relation catalogue, AttrNumber column, Oid relid)
{
	Oid			index = get_relname_relid(TABLE_INDEX, PG_CATALOG_NAMESPACE);
	ScanKeyData key;
	SysScanDesc scan;
	bool		found;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalogue, index, OidIsValid(index), NULL, 1, &key);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	return found;
}

bool
ps_distributed_is_possible(void)
{
	return OidIsValid(get_relname_relid(CATALOGUE, PG_CATALOG_NAMESPACE));
}

void
ps_distributed_check(void)
{
	Oid			relid = get_relname_relid(CATALOGUE, PG_CATALOG_NAMESPACE);
	Relation	catalogue;
	AttrNumber	column;
	const char *distributed = NULL;

	if (!OidIsValid(relid))
		return;
	catalogue = table_open(relid, AccessShareLock);
	column = get_attnum(relid, TABLE_COLUMN);
	for (int i = 0; i < lengthof(tables) && column != InvalidAttrNumber && distributed == NULL; i++)
	{
		Oid			table = get_relname_relid(tables[i], get_namespace_oid(ps_schema_of(false, tables[i]), true));

		if (OidIsValid(table) && has_table(catalogue, column, table))
			distributed = tables[i];
	}
	table_close(catalogue, AccessShareLock);
	if (distributed != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table %s.%s is distributed by Citus", ps_schema_of(false, distributed), distributed),
				 errdetail("Rows written here would be in no shard, and no query would find them."),
				 errhint("Keep profile_stream in a database whose tables are local.")));
}
