/*
 * distributed.c
 *	  Reads Citus' catalogue of distributed tables, which every node has, and which
 *	  also contains tables whose shards are on other nodes. Citus invalidates the
 *	  relcache of a table that it distributes; so what was read is kept until then.
 *	  Without Citus a check costs nothing.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace_d.h"
#include "settings.h"
#include "store/distributed.h"
#include "store/rebuild_schema.h"
#include "store/relation_changes.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#define CATALOGUE "pg_dist_partition"
#define TABLE_COLUMN "logicalrelid"
#define MAX_TABLES 64

const PsShardedTable ps_sharded_tables[PS_SHARDED_TABLES] = {
	[PS_SHARDED_PROFILES] = {PS_SCHEMA, "materialized_profiles"},
	[PS_SHARDED_CHUNKS] = {PS_INTERNAL_SCHEMA, "window_chunks"},
	[PS_SHARDED_EVENT_IDS] = {PS_INTERNAL_SCHEMA, "event_id_chunks"},
	[PS_SHARDED_OFFSETS] = {PS_INTERNAL_SCHEMA, "shard_offsets"},
	[PS_SHARDED_SEGMENT_CHANGES] = {PS_SCHEMA, "segment_changes"},
	[PS_SHARDED_SCORE_PASSES] = {PS_INTERNAL_SCHEMA, "score_passes"},
	[PS_SHARDED_MEMBERS] = {PS_SCHEMA, "segment_members"},
	[PS_SHARDED_CHECKS] = {PS_INTERNAL_SCHEMA, "segment_checks"},
	[PS_SHARDED_FILLS] = {PS_INTERNAL_SCHEMA, "segment_fills"},
	[PS_SHARDED_COUNTS] = {PS_INTERNAL_SCHEMA, "segment_day_counts"},
	[PS_SHARDED_OUTBOX] = {PS_INTERNAL_SCHEMA, "outbox"},
	[PS_SHARDED_PENDING] = {PS_INTERNAL_SCHEMA, "sink_pending"}
};

/* Tables of the extension that are distributed, how many of them distribute() distributes, and whether this is still valid. */
static Oid	distributed[MAX_TABLES];
static int	ndistributed = 0;
static int	nsharded = 0;
static bool known = false;
static uint64 changes = 0;

static void
distributed_relation_changed(Oid relid)
{
	changes++;
	known = false;
}

/* A table was made; perhaps it is the catalogue. */
static void
distributed_name_changed(Datum arg, int cache, uint32 hash)
{
	distributed_relation_changed(InvalidOid);
}

static bool
is_ours(Oid relid)
{
	const char *schema = get_namespace_name(get_rel_namespace(relid));

	return schema != NULL &&
		(strcmp(schema, PS_SCHEMA) == 0 || strcmp(schema, PS_INTERNAL_SCHEMA) == 0 || strcmp(schema, PS_REBUILD_SCHEMA) == 0);
}

PsSharded
ps_sharded_find(const char *name, int len)
{
	int			found = 0;

	while (found < PS_SHARDED_TABLES &&
		   (strlen(ps_sharded_tables[found].name) != len || memcmp(ps_sharded_tables[found].name, name, len) != 0))
		found++;
	return found;
}

bool
ps_distributed_by_us(Oid relid)
{
	const char *name = get_rel_name(relid);
	PsSharded	table = name == NULL ? PS_SHARDED_TABLES : ps_sharded_find(name, strlen(name));

	return table < PS_SHARDED_TABLES && strcmp(get_namespace_name(get_rel_namespace(relid)), ps_sharded_tables[table].schema) == 0;
}

static void
read_catalogue(Relation catalogue, AttrNumber column)
{
	SysScanDesc scan = systable_beginscan(catalogue, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)) && ndistributed < MAX_TABLES)
	{
		bool		isnull;
		Oid			relid = DatumGetObjectId(heap_getattr(tuple, column, RelationGetDescr(catalogue), &isnull));

		if (isnull || !is_ours(relid))
			continue;
		nsharded += ps_distributed_by_us(relid);
		distributed[ndistributed++] = relid;
	}
	systable_endscan(scan);
}

static void
find_distributed(void)
{
	static bool watching = false;
	uint64		before = changes;
	Oid			relid = get_relname_relid(CATALOGUE, PG_CATALOG_NAMESPACE);
	Relation	catalogue;
	AttrNumber	column;

	if (!watching)
	{
		ps_on_relation_change(distributed_relation_changed);
		CacheRegisterSyscacheCallback(RELOID, distributed_name_changed, (Datum) 0);
	}
	watching = true;
	ndistributed = nsharded = 0;
	if (OidIsValid(relid))
	{
		catalogue = table_open(relid, AccessShareLock);
		column = get_attnum(relid, TABLE_COLUMN);
		if (column != InvalidAttrNumber)
			read_catalogue(catalogue, column);
		table_close(catalogue, AccessShareLock);
	}
	known = before == changes;
}

static void
distributed_refuse(Oid relid)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("table %s.%s is distributed by Citus", get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid)),
			 errdetail("Rows written here would be in no shard, and no query would find them."),
			 errhint("Keep profile_stream in a database whose tables are local.")));
}

bool
ps_distributed_lately(void)
{
	return nsharded == PS_SHARDED_TABLES;
}

bool
ps_distributed(void)
{
	Assert(IsTransactionState());
	if (!known)
		find_distributed();
	return ps_distributed_lately();
}

void
ps_distributed_check(Oid relid)
{
	bool		by_us = ps_distributed();

	for (int i = 0; i < ndistributed; i++)
		if (relid == distributed[i] || (!OidIsValid(relid) && !(by_us && ps_distributed_by_us(distributed[i]))))
			distributed_refuse(distributed[i]);
}

void
ps_distributed_refuse_table(PsSharded table)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("table %s.%s is distributed by Citus", ps_sharded_tables[table].schema, ps_sharded_tables[table].name),
			 errdetail("What was called needs all of its rows on one server."),
			 errhint("profile_stream.undistribute() brings them to the coordinator.")));
}

void
ps_distributed_refuse(const char *what)
{
	if (ps_distributed())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s does not work on distributed profiles", what),
				 errhint("profile_stream.undistribute() brings them to the coordinator.")));
}
