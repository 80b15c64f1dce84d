/*
 * direct_heap.c
 *	  Finds, inserts and updates rows of plain tables. Like the executor, it calls the table
 *	  and index access methods, but takes a fraction of the executor's time for a row.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "rewrite/rewriteHandler.h"
#include "storage/bufmgr.h"
#include "storage/freespace.h"
#include "store/direct_heap.h"
#include "store/distributed.h"
#include "store/owner.h"
#include "store/rebuild_schema.h"
#include "store/shard_names.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define PREFETCHED_BYTES 512	/* of a row */
#define CACHE_LINE 64
#define ROOM_TO_GROW 64			/* bytes by which an update may make a row longer */

/* Prepares a scan of the index with that name; false when it is not the btree that we expect. */
static bool
begin_scan(PsDirectTable *table, const char *name)
{
	static const Oid key_types[1] = {TEXTOID};

	for (int i = 0; i < table->result->ri_NumIndices; i++)
	{
		Relation	index = table->result->ri_IndexRelationDescs[i];

		if (strcmp(RelationGetRelationName(index), name) != 0)
			continue;
		if (!ps_direct_is_index_of(index, table->relation, key_types, lengthof(key_types)) || index->rd_index->indnkeyatts != 1)
			return false;
		ScanKeyEntryInitialize(&table->key, 0, 1, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ, (Datum) 0);
		table->scan = ps_index_beginscan(table->relation, index, GetActiveSnapshot(), 1);
		return true;
	}
	return false;
}

/* Opens the indexes; false when one needs more than inserting entries. */
static bool
open_indexes(PsDirectTable *table)
{
	table->estate = CreateExecutorState();
	table->result = makeNode(ResultRelInfo);
	InitResultRelInfo(table->result, table->relation, 0, NULL, 0);
	ExecOpenIndices(table->result, false);
	for (int i = 0; i < table->result->ri_NumIndices; i++)
		if (table->result->ri_IndexRelationInfo[i]->ii_ExclusionOps != NULL ||
			!table->result->ri_IndexRelationDescs[i]->rd_index->indimmediate)
			return false;
	return true;
}

bool
ps_direct_open(PsDirectTable *table, const char *name, const char *index,
			   const Oid *types, int ntypes, int ncolumns)
{
	Oid			relid = ps_own_table(ps_rebuild_schema_used(), name);

	memset(table, 0, sizeof(PsDirectTable));
	if (!ps_direct_is_allowed() || !OidIsValid(relid) || XactReadOnly)
		return false;
	table->context = CurrentMemoryContext;
	table->relation = table_open(relid, RowExclusiveLock);
	ps_distributed_check(InvalidOid);
	ps_distributed_check(relid);
	if (ps_direct_is_plain(table->relation, types, ntypes, ncolumns) && open_indexes(table) && begin_scan(table, ps_shard_names_index(name, index)))
	{
		table->updated = table_slot_create(table->relation, NULL);
		table->nblocks = RelationGetNumberOfBlocks(table->relation);
		table->command = GetCurrentCommandId(true);
		return true;
	}
	ps_direct_close(table);
	return false;
}

/*
 * Prunes a page, and records its free space when a row of another page fits too.
 * Pruning itself does not record it, so that the table would grow until the next
 * VACUUM whenever rows outgrow their page.
 */
static void
direct_heap_prune(PsDirectTable *table, Buffer buffer, Size needed)
{
	BlockNumber block = BufferGetBlockNumber(buffer);
	Size		room;

	heap_page_prune_opt(table->relation, buffer);
	room = PageGetHeapFreeSpace(BufferGetPage(buffer));
	if (room < RelationGetTargetPageFreeSpace(table->relation, HEAP_DEFAULT_FILLFACTOR) + 2 * needed ||
		GetRecordedFreeSpace(table->relation, block) >= room - needed - BLCKSZ / 16)
		return;
	RecordPageWithFreeSpace(table->relation, block, room - needed);
	FreeSpaceMapVacuumRange(table->relation, block, block + 1);
}

/*
 * Reads the row to which an index entry points. Prunes the page only when the next
 * update would not fit. An index scan would prune at each visit, because each
 * update leaves a page less free space than the fill factor asks for. *seen is the
 * buffer where the page was seen last, or 0, and becomes that where it is now.
 */
static HeapTuple
direct_heap_fetch(PsDirectTable *table, ItemPointer tid, Buffer *seen)
{
	BlockNumber block = ItemPointerGetBlockNumber(tid);
	Buffer		buffer = *seen;
	HeapTupleData row;
	HeapTuple	copy = NULL;

	if (!BufferIsValid(buffer) || !ReadRecentBuffer(PS_RELATION_FILES(table->relation), MAIN_FORKNUM, block, buffer))
		buffer = ReadBuffer(table->relation, block);
	*seen = buffer;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	if (heap_hot_search_buffer(tid, table->relation, buffer, GetActiveSnapshot(), &row, NULL, true))
		copy = heap_copytuple(&row);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (copy != NULL && PageGetHeapFreeSpace(BufferGetPage(buffer)) < copy->t_len + ROOM_TO_GROW)
		direct_heap_prune(table, buffer, copy->t_len + ROOM_TO_GROW);
	ReleaseBuffer(buffer);
	return copy;
}

/* The next entry of the index. The scan keeps memory from its first call on. */
static ItemPointer
next_tid(PsDirectTable *table)
{
	MemoryContext old = MemoryContextSwitchTo(table->context);
	ItemPointer tid = index_getnext_tid(table->scan, ForwardScanDirection);

	MemoryContextSwitchTo(old);
	return tid;
}

HeapTuple
ps_direct_find(PsDirectTable *table, Datum key)
{
	ItemPointer tid;

	table->key.sk_argument = key;
	table->inserting = InvalidTransactionId;
	index_rescan(table->scan, &table->key, 1, NULL, 0);
	while ((tid = next_tid(table)) != NULL)
	{
		ItemPointerData root = *tid;
		HeapTuple	row;

		table->buffer = InvalidBuffer;
		row = direct_heap_fetch(table, &root, &table->buffer);

		if (row != NULL)
			return row;
		root = *tid;
		ps_direct_note_insertion(table, &root);
	}
	return NULL;
}

ItemPointerData
ps_direct_root_tid(const PsDirectTable *table)
{
	return table->scan->xs_heaptid;
}

void
ps_direct_prefetch_page(const ItemPointerData *place, Buffer seen)
{
	Page		page = BufferGetPage(seen);

	ps_prefetch(page);
	ps_prefetch(PageGetItemId(page, ItemPointerGetOffsetNumber(place)));
}

/* Reads the page without a lock, because what it finds is only a guess, and within the page in any case. */
void
ps_direct_prefetch_row(const ItemPointerData *place, Buffer seen)
{
	Page		page = BufferGetPage(seen);
	ItemIdData	item = *PageGetItemId(page, ItemPointerGetOffsetNumber(place));
	char	   *row;

	if (ItemIdIsRedirected(&item) && ItemIdGetRedirect(&item) <= MaxHeapTuplesPerPage)
		item = *PageGetItemId(page, Max(ItemIdGetRedirect(&item), FirstOffsetNumber));
	row = (char *) page + Min(ItemIdGetOffset(&item), BLCKSZ - PREFETCHED_BYTES);
	for (int i = 0; i < PREFETCHED_BYTES; i += CACHE_LINE)
		ps_prefetch(row + i);
}

HeapTuple
ps_direct_fetch_at(PsDirectTable *table, ItemPointer place, Buffer *seen)
{
	ItemPointerData root = *place;

	return ItemPointerGetBlockNumber(place) < table->nblocks ? direct_heap_fetch(table, &root, seen) : NULL;
}

/* Stores values in the first columns of a slot, without copying them. */
static void
direct_heap_put(const PsDirectTable *table, TupleTableSlot *slot, const Datum *values, const bool *nulls, int n)
{
	ExecClearTuple(slot);
	slot->tts_tableOid = RelationGetRelid(table->relation);
	memcpy(slot->tts_values, values, n * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, n * sizeof(bool));
}

/* Adds the entries of a row to the indexes. */
static void
insert_index_entries(PsDirectTable *table, TupleTableSlot *slot, bool update, bool only_summarizing)
{
	PsSavedUser saved = ps_switch_to_owner();	/* indexes may have expressions */

	list_free(ps_insert_index_tuples(table->result, slot, table->estate, update, only_summarizing));
	ResetPerTupleExprContext(table->estate);
	ps_restore_user(saved);
}

/*
 * Adds the entry of a version that left the page of the one before. The key is the same,
 * so it is still unique: the executor would visit the version before to find that out.
 */
static void
insert_moved_entry(PsDirectTable *table, TupleTableSlot *slot)
{
	IndexInfo  *info = table->result->ri_IndexRelationInfo[0];
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];

	FormIndexDatum(info, slot, table->estate, values, nulls);
	(void) index_insert(table->scan->indexRelation, values, nulls, &slot->tts_tid, table->relation, UNIQUE_CHECK_NO, true, info);
}

void
ps_direct_flush(PsDirectTable *table)
{
	if (table->ninserted == 0)
		return;
	table_multi_insert(table->relation, table->inserted, table->ninserted, table->command, 0, NULL);
	for (int i = 0; i < table->ninserted; i++)
	{
		insert_index_entries(table, table->inserted[i], false, false);
		*table->places[i] = table->inserted[i]->tts_tid;
		ExecClearTuple(table->inserted[i]);
	}
	table->ninserted = 0;
}

/* Prepares the defaults of the columns. */
static void
prepare_defaults(PsDirectTable *table)
{
	int			natts = RelationGetNumberOfAttributes(table->relation);
	MemoryContext old = MemoryContextSwitchTo(table->context);

	table->defaults = palloc0(natts * sizeof(ExprState *));
	for (int i = 0; i < natts; i++)
	{
		Node	   *expression = build_column_default(table->relation, i + 1);

		if (expression != NULL)
			table->defaults[i] = ExecPrepareExpr((Expr *) expression, table->estate);
	}
	MemoryContextSwitchTo(old);
}

/* A slot for the next row to be inserted. */
static TupleTableSlot *
next_slot(PsDirectTable *table)
{
	if (table->ninserted == PS_DIRECT_MAX_INSERTED)
		ps_direct_flush(table);
	if (table->inserted[table->ninserted] == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(table->context);

		table->inserted[table->ninserted] = table_slot_create(table->relation, NULL);
		MemoryContextSwitchTo(old);
	}
	return table->inserted[table->ninserted++];
}

/* Fills the columns from the given one on with their defaults, computed with the rights of the table's owner. */
static void
put_defaults(PsDirectTable *table, TupleTableSlot *slot, int from, int natts)
{
	PsSavedUser saved = ps_switch_to_owner();

	if (table->defaults == NULL)
		prepare_defaults(table);
	for (int i = from; i < natts; i++)
	{
		slot->tts_isnull[i] = table->defaults[i] == NULL;
		if (table->defaults[i] != NULL)
			slot->tts_values[i] = ExecEvalExpr(table->defaults[i], GetPerTupleExprContext(table->estate),
											   &slot->tts_isnull[i]);
	}
	ps_restore_user(saved);
}

void
ps_direct_insert(PsDirectTable *table, const Datum *values, const bool *nulls, int n, ItemPointer place)
{
	TupleTableSlot *slot = next_slot(table);
	int			natts = RelationGetNumberOfAttributes(table->relation);

	table->places[table->ninserted - 1] = place;
	direct_heap_put(table, slot, values, nulls, n);
	if (n < natts)
		put_defaults(table, slot, n, natts);
	ExecStoreVirtualTuple(slot);
	ps_direct_check_row(table, slot);
}

void
ps_direct_complain_of_change(const char *table)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("a row of %s changed without the customer's lock", table),
			 errhint("Call profile_stream.lock_customer(customer_id) before changing it.")));
}

ItemPointer
ps_direct_update(PsDirectTable *table, ItemPointer tid, const Datum *values, const bool *nulls)
{
	TupleTableSlot *slot = table->updated;
	TM_FailureData failure;
	LockTupleMode lockmode;
	PS_UPDATED_INDEXES update_indexes;

	direct_heap_put(table, slot, values, nulls, RelationGetNumberOfAttributes(table->relation));
	ExecStoreVirtualTuple(slot);
	ps_direct_check_row(table, slot);
	if (!table->updates_checked)
		CheckCmdReplicaIdentity(table->relation, CMD_UPDATE);
	table->updates_checked = true;
	if (table_tuple_update(table->relation, tid, slot, table->command, GetActiveSnapshot(), InvalidSnapshot,
						   true, &failure, &lockmode, &update_indexes) != TM_Ok)
		ps_direct_complain_of_change(RelationGetRelationName(table->relation));
	if (PS_UPDATES_INDEXES(update_indexes) && table->result->ri_NumIndices == 1)
		insert_moved_entry(table, slot);
	else if (PS_UPDATES_INDEXES(update_indexes))
		insert_index_entries(table, slot, true, PS_UPDATES_SUMMARIES_ONLY(update_indexes));
	return PS_UPDATES_INDEXES(update_indexes) && !PS_UPDATES_SUMMARIES_ONLY(update_indexes) ? &slot->tts_tid : NULL;
}

void
ps_direct_close(PsDirectTable *table)
{
	if (table->scan != NULL)
	{
		ps_direct_flush(table);
		for (int i = 0; i < PS_DIRECT_MAX_INSERTED && table->inserted[i] != NULL; i++)
			ExecDropSingleTupleTableSlot(table->inserted[i]);
		index_endscan(table->scan);
		ExecDropSingleTupleTableSlot(table->updated);
	}
	if (table->result != NULL)
	{
		ExecCloseIndices(table->result);
		FreeExecutorState(table->estate);
	}
	table_close(table->relation, NoLock);	/* the lock stays until the transaction ends */
	CommandCounterIncrement();
}
