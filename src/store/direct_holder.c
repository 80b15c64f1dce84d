/*
 * direct_holder.c
 *	  Finds the transaction that keeps a row of a plain table from being written. This
 *	  is asked before writing, so that a worker never waits for a row.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/multixact.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "store/direct_heap.h"
#include "utils/snapmgr.h"

void
ps_direct_note_insertion(PsDirectTable *table, ItemPointer tid)
{
	Buffer		buffer = ReadBuffer(table->relation, ItemPointerGetBlockNumber(tid));
	HeapTupleData row;
	SnapshotData dirty;

	InitDirtySnapshot(dirty);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	if (heap_hot_search_buffer(tid, table->relation, buffer, &dirty, &row, NULL, true) &&
		TransactionIdIsValid(dirty.xmin))
		table->inserting = dirty.xmin;
	UnlockReleaseBuffer(buffer);
}

/* A member of a multixact that still runs and is not this transaction. */
static TransactionId
running_member(MultiXactId multi, bool only_locks)
{
	MultiXactMember *members;
	int			n = GetMultiXactIdMembers(multi, &members, false, only_locks);

	for (int i = 0; i < n; i++)
		if (!TransactionIdIsCurrentTransactionId(members[i].xid) && TransactionIdIsInProgress(members[i].xid))
			return members[i].xid;
	return InvalidTransactionId;
}

TransactionId
ps_xmax_holder(TransactionId xmax)
{
	MultiXactId oldest;
	MultiXactId next;

	if (!TransactionIdIsValid(xmax) || TransactionIdIsInProgress(xmax))
		return xmax;
	ReadMultiXactIdRange(&oldest, &next);
	if (MultiXactIdPrecedes(xmax, oldest) || !MultiXactIdPrecedes(xmax, next))
		return InvalidTransactionId;
	return running_member(xmax, false);
}

TransactionId
ps_direct_row_holder(PsDirectTable *table, HeapTuple row)
{
	TransactionId xmax = HeapTupleHeaderGetRawXmax(row->t_data);
	bool		is_multi = (row->t_data->t_infomask & HEAP_XMAX_IS_MULTI) != 0;
	TM_FailureData failure;
	TM_Result	result;

	/* the common case: nobody has locked the row since it was written */
	if ((row->t_data->t_infomask & HEAP_XMAX_INVALID) != 0)
		return InvalidTransactionId;
	if (is_multi)
		xmax = running_member(xmax, HEAP_XMAX_IS_LOCKED_ONLY(row->t_data->t_infomask));
	if (!TransactionIdIsValid(xmax) || TransactionIdIsCurrentTransactionId(xmax) || !TransactionIdIsInProgress(xmax))
		return InvalidTransactionId;
	/* some locks, as those of foreign keys, do not block an update */
	result = table_tuple_lock(table->relation, &row->t_self, GetActiveSnapshot(), table->updated, table->command,
							  LockTupleNoKeyExclusive, LockWaitSkip, 0, &failure);
	ExecClearTuple(table->updated);
	return result == TM_WouldBlock ? xmax : InvalidTransactionId;
}
