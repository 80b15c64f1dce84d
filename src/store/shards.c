/*
 * shards.c
 *	  Reads pg_dist_shard, pg_dist_placement, pg_dist_node and pg_dist_local_group, which
 *	  every node of Citus has. Citus invalidates the relcache of a table when one of its
 *	  shards moves; so what was read is kept until then. Whoever writes a shard looks
 *	  again under a lock, see shard_fence.c.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace_d.h"
#include "core/partitioner.h"
#include "store/relation_changes.h"
#include "store/shards.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

typedef struct Shard
{
	int32		from;			/* hashes of its customers */
	int32		to;
	int64		ids[PS_SHARDED_TABLES];
	int32		group;			/* of nodes; -1: not known */
	char		slot[16];
} Shard;

static Shard *shards = NULL;
static int	nshards = 0;
static Oid	tables[PS_SHARDED_TABLES];
static int32 local_group = -1;
static bool stale = true;
static uint64 changes = 0;
static uint64 reads = 0;
static int	used = PS_NO_SHARD;

static void
shards_relation_changed(Oid relid)
{
	for (int t = 0; t < PS_SHARDED_TABLES; t++)
		stale |= relid == InvalidOid || relid == tables[t];
}

static void
shards_transaction_ended(XactEvent event, void *arg)
{
	used = PS_NO_SHARD;
}

#define PS_MIN_HASHES 65536		/* add_slots() has the same number */
#define CATALOGUE_COLUMNS 4

/* A scan of a table of Citus' catalogue. */
typedef struct CatalogueScan
{
	Relation	catalogue;
	AttrNumber	numbers[CATALOGUE_COLUMNS]; /* of the columns that are asked for */
	SysScanDesc scan;
	HeapTuple	row;
} CatalogueScan;

static void
begin_catalogue(CatalogueScan *scan, const char *name, const char *const *columns, int ncolumns)
{
	Oid			relid = get_relname_relid(name, PG_CATALOG_NAMESPACE);

	Assert(ncolumns <= CATALOGUE_COLUMNS);
	for (int i = 0; i < ncolumns; i++)
	{
		scan->numbers[i] = OidIsValid(relid) ? get_attnum(relid, columns[i]) : InvalidAttrNumber;
		if (scan->numbers[i] == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("the catalogue of Citus has no %s.%s", name, columns[i]),
					 errhint("Use a version of Citus that profile_stream was tested with.")));
	}
	scan->catalogue = table_open(relid, AccessShareLock);
	scan->scan = systable_beginscan(scan->catalogue, InvalidOid, false, NULL, 0, NULL);
}

/* Goes to the next row; false when there is none. */
static bool
next_row(CatalogueScan *scan)
{
	scan->row = systable_getnext(scan->scan);
	return HeapTupleIsValid(scan->row);
}

static void
end_catalogue(CatalogueScan *scan)
{
	systable_endscan(scan->scan);
	table_close(scan->catalogue, AccessShareLock);
}

static Datum
catalogue_value(const CatalogueScan *scan, int column)
{
	bool		isnull;
	Datum		value = heap_getattr(scan->row, scan->numbers[column], RelationGetDescr(scan->catalogue), &isnull);

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a row of %s has no value", RelationGetRelationName(scan->catalogue))));
	return value;
}

static int
compare_shards(const void *a, const void *b)
{
	const Shard *x = a;
	const Shard *y = b;

	return x->from < y->from ? -1 : x->from > y->from;
}

/* Reads the shards of a table, by their hashes. */
static List *
read_shards(Oid relid, PsSharded table)
{
	static const char *const columns[] = {"logicalrelid", "shardid", "shardminvalue", "shardmaxvalue"};
	CatalogueScan scan;
	List	   *result = NIL;

	begin_catalogue(&scan, "pg_dist_shard", columns, lengthof(columns));
	while (next_row(&scan))
	{
		Shard	   *shard;

		if (DatumGetObjectId(catalogue_value(&scan, 0)) != relid)
			continue;
		shard = palloc0(sizeof(Shard));
		shard->ids[table] = DatumGetInt64(catalogue_value(&scan, 1));
		shard->from = pg_strtoint32(TextDatumGetCString(catalogue_value(&scan, 2)));
		shard->to = pg_strtoint32(TextDatumGetCString(catalogue_value(&scan, 3)));
		shard->group = -1;
		result = lappend(result, shard);
	}
	end_catalogue(&scan);
	return result;
}

/* The shards of the first table, in the order of their hashes. */
static Shard *
sort_shards(List *list)
{
	Shard	   *result = palloc0(Max(list_length(list), 1) * sizeof(Shard));

	for (int i = 0; i < list_length(list); i++)
		result[i] = *(Shard *) list_nth(list, i);
	qsort(result, list_length(list), sizeof(Shard), compare_shards);
	return result;
}

/* Adds the numbers of another table's shards, which must be those of the same customers. */
static void
add_table(Shard *all, int n, List *list, PsSharded table)
{
	Shard	   *others = sort_shards(list);

	for (int i = 0; i < n; i++)
	{
		if (list_length(list) != n || others[i].from != all[i].from || others[i].to != all[i].to)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the shards of %s.%s are not those of %s.%s", ps_sharded_tables[table].schema, ps_sharded_tables[table].name,
							ps_sharded_tables[0].schema, ps_sharded_tables[0].name),
					 errhint("profile_stream.distribute() makes tables with the same shards.")));
		all[i].ids[table] = others[i].ids[table];
	}
}

static void
begin_placements(CatalogueScan *scan)
{
	static const char *const columns[] = {"shardid", "groupid"};

	begin_catalogue(scan, "pg_dist_placement", columns, lengthof(columns));
}

/* The shard of profiles that is meant by a row of a scan of placements; PS_NO_SHARD: it is of another table. */
static int
placed_shard(const CatalogueScan *scan, const Shard *all, int n)
{
	int64		id = DatumGetInt64(catalogue_value(scan, 0));

	for (int i = 0; i < n; i++)
		if (all[i].ids[PS_SHARDED_PROFILES] == id)
			return i;
	return PS_NO_SHARD;
}

static int32
placed_group(const CatalogueScan *scan)
{
	return DatumGetInt32(catalogue_value(scan, 1));
}

/* Finds the group of nodes that has each shard of profiles. */
static void
read_placements(Shard *all, int n)
{
	CatalogueScan scan;

	begin_placements(&scan);
	while (next_row(&scan))
	{
		int			shard = placed_shard(&scan, all, n);

		if (shard != PS_NO_SHARD)
			all[shard].group = placed_group(&scan);
	}
	end_catalogue(&scan);
}

static int32
read_local_group(void)
{
	static const char *const columns[] = {"groupid"};
	CatalogueScan scan;
	int32		group;

	begin_catalogue(&scan, "pg_dist_local_group", columns, lengthof(columns));
	group = next_row(&scan) ? DatumGetInt32(catalogue_value(&scan, 0)) : -1;
	end_catalogue(&scan);
	return group;
}

static int
shard_of_hash(const Shard *all, int n, int32 hash)
{
	int			from = 0;
	int			to = n - 1;

	while (from < to)
	{
		int			middle = from + (to - from) / 2;

		if (all[middle].to < hash)
			from = middle + 1;
		else
			to = middle;
	}
	return n > 0 && all[from].from <= hash && hash <= all[from].to ? from : PS_NO_SHARD;
}

/* Whether a text of a shard is found in a moment. That of a customer whom Citus has isolated has one hash of 2^32. */
static bool
has_slot(const Shard *shard)
{
	return (int64) shard->to - shard->from >= PS_MIN_HASHES - 1;
}

/* Gives each shard the first of the texts 1, 2, … that belongs to it. */
static void
find_slots(Shard *all, int n)
{
	int			missing = 0;

	for (int i = 0; i < n; i++)
		missing += has_slot(&all[i]);
	for (int number = 1; missing > 0; number++)
	{
		char		slot[16];
		int			shard;

		snprintf(slot, sizeof(slot), "%d", number);
		shard = shard_of_hash(all, n, ps_partitioner_citus_hash(slot, strlen(slot)));
		if (shard == PS_NO_SHARD)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("no shard of %s.%s has the hash of \"%s\"", ps_sharded_tables[0].schema, ps_sharded_tables[0].name, slot)));
		if (all[shard].slot[0] != '\0' || !has_slot(&all[shard]))
			continue;
		strcpy(all[shard].slot, slot);
		missing--;
	}
}

/* Whether other shards are on this node than before. */
static bool
have_moved(const Shard *now, int n, int32 group)
{
	if (n != nshards || group != local_group)
		return true;
	for (int i = 0; i < n; i++)
		if (now[i].ids[0] != shards[i].ids[0] || (now[i].group == group) != (shards[i].group == group))
			return true;
	return false;
}

/* Reads the catalogue. */
static void
load_shards(void)
{
	static bool watching = false;
	Shard	   *now;
	int			n = 0;
	int32		group;

	if (!watching)
	{
		ps_on_relation_change(shards_relation_changed);
		RegisterXactCallback(shards_transaction_ended, NULL);
	}
	watching = true;
	for (int t = 0; t < PS_SHARDED_TABLES; t++)
		tables[t] = get_relname_relid(ps_sharded_tables[t].name, get_namespace_oid(ps_sharded_tables[t].schema, false));
	reads++;
	stale = false;				/* set before reading: a change from here on must make it stale again */
	now = NULL;
	for (int t = 0; t < PS_SHARDED_TABLES; t++)
	{
		List	   *list = read_shards(tables[t], t);

		if (t == 0)
		{
			n = list_length(list);
			now = sort_shards(list);
		}
		else
			add_table(now, n, list, t);
	}
	read_placements(now, n);
	group = read_local_group();
	find_slots(now, n);
	if (!have_moved(now, n, group))
		return;
	if (shards != NULL)
		pfree(shards);
	shards = MemoryContextAlloc(TopMemoryContext, Max(n, 1) * sizeof(Shard));
	memcpy(shards, now, n * sizeof(Shard));
	nshards = n;
	local_group = group;
	changes++;
}

/* How many shards the catalogue has on this node; a shard that is not known to be here makes all of them stale. */
static int
count_placements(void)
{
	CatalogueScan scan;
	int			found = 0;

	begin_placements(&scan);
	while (next_row(&scan))
	{
		int			shard = placed_group(&scan) == local_group ? placed_shard(&scan, shards, nshards) : PS_NO_SHARD;

		if (shard == PS_NO_SHARD)
			continue;
		found++;
		stale |= !ps_shards_is_here(shard);
	}
	end_catalogue(&scan);
	return found;
}

void
ps_shards_look(void)
{
	int			known = 0;

	for (int i = 0; i < nshards; i++)
		known += ps_shards_is_here(i);
	if (!stale && count_placements() != known)
		stale = true;
	(void) ps_shards_count();
}

static void
shards_need(void)
{
	if (!stale)
		return;
	PG_TRY();
	{
		load_shards();
	}
	PG_CATCH();
	{
		stale = true;
		PG_RE_THROW();
	}
	PG_END_TRY();
}

int
ps_shards_count(void)
{
	shards_need();
	return nshards;
}

bool
ps_shards_are_stale(void)
{
	return stale;
}

uint64
ps_shards_changes(void)
{
	return changes;
}

uint64
ps_shards_reads(void)
{
	return reads;
}

int
ps_shards_find(const char *text, int len)
{
	int			shard;

	if (IsTransactionState())
		shards_need();
	shard = shard_of_hash(shards, nshards, ps_partitioner_citus_hash(text, len));
	if (shard == PS_NO_SHARD)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no shard of %s.%s has the customer \"%s\"", ps_sharded_tables[0].schema, ps_sharded_tables[0].name, pnstrdup(text, len))));
	return shard;
}

bool
ps_shards_is_here(int shard)
{
	return shards[shard].group == local_group;
}

bool
ps_shards_any_here(void)
{
	int			n = ps_shards_count();

	for (int shard = 0; shard < n; shard++)
		if (ps_shards_is_here(shard))
			return true;
	return false;
}

const char *
ps_shards_slot(int shard)
{
	if (!has_slot(&shards[shard]))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("shard " INT64_FORMAT " of profiles has only " INT64_FORMAT " hashes of customers", shards[shard].ids[PS_SHARDED_PROFILES],
						(int64) shards[shard].to - shards[shard].from + 1),
				 errhint("Isolated tenants are not supported: drop the streams, and call undistribute() and distribute() on the coordinator.")));
	return shards[shard].slot;
}

char *
ps_shards_range(int shard)
{
	return psprintf("%d:%d", shards[shard].from, shards[shard].to);
}

int
ps_shards_first_beside(int shard)
{
	int			first = 0;

	while (shards[first].group != shards[shard].group)
		first++;
	return first;
}

int32
ps_shards_group(void)
{
	shards_need();
	return local_group;
}

bool
ps_shards_on_coordinator(void)
{
	shards_need();
	return local_group == 0;
}

int64
ps_shards_id(int shard, PsSharded table)
{
	return shards[shard].ids[table];
}

char *
ps_shards_node(int shard)
{
	static const char *const columns[] = {"groupid", "nodename", "nodeport"};
	CatalogueScan scan;
	char	   *node = NULL;

	begin_catalogue(&scan, "pg_dist_node", columns, lengthof(columns));
	while (node == NULL && next_row(&scan))
		if (DatumGetInt32(catalogue_value(&scan, 0)) == shards[shard].group)
			node = psprintf("%s:%d", TextDatumGetCString(catalogue_value(&scan, 1)), DatumGetInt32(catalogue_value(&scan, 2)));
	end_catalogue(&scan);
	return node == NULL ? pstrdup("another node") : node;
}

void
ps_shards_use(int shard)
{
	Assert(shard == PS_NO_SHARD || ps_shards_is_here(shard));
	used = shard;
}

void
ps_shards_use_customer(const char *customer_id, int len)
{
	int			shard;

	if (!ps_distributed())
		return;
	shard = ps_shards_find(customer_id, len);
	ps_shards_use(ps_shards_is_here(shard) ? shard : PS_NO_SHARD);
}

int
ps_shards_used(void)
{
	return used;
}
