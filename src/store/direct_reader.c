/*
 * direct_reader.c
 *	  Reads rows by an index without the executor. direct_heap.c does so for batches
 *	  that write, with the owner's rights.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "compat.h"
#include "miscadmin.h"
#include "store/direct_heap.h"
#include "store/direct_reader.h"
#include "store/distributed.h"
#include "store/owner.h"
#include "store/shard_names.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Whether a table is a heap of its own, without row security, whose first columns are ours. */
static bool
is_directly_readable(Relation relation, const Oid *types, int ntypes)
{
	TupleDesc	desc = RelationGetDescr(relation);

	if (relation->rd_rel->relkind != RELKIND_RELATION || relation->rd_rel->relam != HEAP_TABLE_AM_OID ||
		relation->rd_rel->relhassubclass || relation->rd_rel->relrowsecurity || relation->rd_rules != NULL ||
		desc->natts < ntypes)
		return false;
	for (int i = 0; i < ntypes; i++)
		if (TupleDescAttr(desc, i)->attisdropped || TupleDescAttr(desc, i)->atttypid != types[i])
			return false;
	return true;
}

bool
ps_direct_reader_open(PsDirectReader *reader, const char *name, const char *index, const Oid *types, int ntypes, int nkeys)
{
	Oid			relid = ps_own_table(false, name);
	Oid			index_id = OidIsValid(relid) ? get_relname_relid(ps_shard_names_index(name, index), get_rel_namespace(relid)) : InvalidOid;

	Assert(nkeys <= PS_DIRECT_READER_MAX_KEYS);
	memset(reader, 0, sizeof(PsDirectReader));
	if (!ps_direct_is_allowed() || !OidIsValid(index_id) ||
		pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		return false;
	reader->relation = table_open(relid, AccessShareLock);
	ps_distributed_check(InvalidOid);
	ps_distributed_check(relid);
	if (is_directly_readable(reader->relation, types, ntypes))
	{
		reader->index = try_relation_open(index_id, AccessShareLock);
		if (reader->index != NULL && reader->index->rd_rel->relkind == RELKIND_INDEX &&
			ps_direct_is_index_of(reader->index, reader->relation, types, nkeys))
		{
			reader->slot = table_slot_create(reader->relation, NULL);
			reader->nkeys = nkeys;
			return true;
		}
	}
	ps_direct_reader_close(reader);
	return false;
}

void
ps_direct_reader_set_text(PsDirectReader *reader, int column, const text *value)
{
	ScanKeyEntryInitialize(&reader->keys[column], 0, column + 1, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, PointerGetDatum(value));
}

void
ps_direct_reader_begin(PsDirectReader *reader)
{
	if (reader->scan == NULL)
		reader->scan = ps_index_beginscan(reader->relation, reader->index, GetActiveSnapshot(), reader->nkeys);
	index_rescan(reader->scan, reader->keys, reader->nkeys, NULL, 0);
}

TupleTableSlot *
ps_direct_reader_next(PsDirectReader *reader)
{
	if (!index_getnext_slot(reader->scan, ForwardScanDirection, reader->slot))
		return NULL;
	Assert(!reader->scan->xs_recheck);	/* btree never asks for it */
	slot_getallattrs(reader->slot);
	return reader->slot;
}

void
ps_direct_reader_close(PsDirectReader *reader)
{
	if (reader->scan != NULL)
		index_endscan(reader->scan);
	if (reader->slot != NULL)
		ExecDropSingleTupleTableSlot(reader->slot);
	if (reader->index != NULL)
		relation_close(reader->index, NoLock);
	if (reader->relation != NULL)
		table_close(reader->relation, NoLock);
}
