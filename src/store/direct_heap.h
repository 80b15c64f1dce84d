/*
 * direct_heap.h
 *	  Rows of a plain table by an index, read and written without the executor.
 *	  The other files of the store come here where a statement a batch is not
 *	  fast enough, and keep their SQL for tables that are not plain.
 *
 *	  plain	a heap of just the columns of its definition, the first ones of
 *			the types that the caller reads, without triggers, rules, row
 *			security, checks, generated columns, children or partitions, with
 *			the index it is read by; more indexes are welcome
 */
#ifndef PS_DIRECT_HEAP_H
#define PS_DIRECT_HEAP_H

#include "postgres.h"

#include "access/genam.h"
#include "access/htup.h"
#include "access/relscan.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "utils/relcache.h"

#define PS_DIRECT_MAX_INSERTED 250

/* What became of a row that was inserted without looking first. */
typedef struct PsSpeculativeInsert
{
	Datum		key;
	ItemPointerData tid;
	bool		taken;			/* a row with that key, alive or not yet dead, is there too */
} PsSpeculativeInsert;

typedef struct PsDirectTable
{
	Relation	relation;
	EState	   *estate;
	ResultRelInfo *result;		/* with its indexes open */
	IndexScanDesc scan;
	BlockNumber nblocks;		/* when it was opened */
	ScanKeyData key;
	TupleTableSlot *updated;
	TupleTableSlot *inserted[PS_DIRECT_MAX_INSERTED];	/* gathered, not yet written */
	PsSpeculativeInsert *trials[PS_DIRECT_MAX_INSERTED];	/* of those; NULL: just inserted */
	int			ninserted;
	ExprState **defaults;		/* of each column, NULL: none; made by the first insert */
	CommandId	command;
	bool		updates_checked;	/* that publications allow them */
	bool		notes_insertions;	/* set by the caller: what is to be known in */
	TransactionId inserting;	/* of a row with the key that was found last, which nobody sees yet; invalid: none */
} PsDirectTable;

/* direct_check.c: whether rows may be written beside the executor at all; whether in this table does what the executor does */
extern bool ps_direct_is_allowed(void);
extern bool ps_direct_is_plain(Relation relation, const Oid *types, int ntypes, int ncolumns);

/* Raises where a row violates the table's NOT NULL and CHECK constraints. */
extern void ps_direct_check_row(const PsDirectTable *table, TupleTableSlot *slot);

/*
 * Opens a table of the extension, and a btree on one column or expression, for
 * the caller's role within an active snapshot; false when it is not plain, or
 * when the role lacks a right that the SQL path will then complain about.
 */
extern bool ps_direct_open(PsDirectTable *table, const char *name, const char *index,
						   const Oid *types, int ntypes, int ncolumns);

/* A copy of the first or next visible row with that key, or NULL. */
extern HeapTuple ps_direct_find(PsDirectTable *table, Datum key);
extern HeapTuple ps_direct_find_next(PsDirectTable *table);

/* Where the index says that the row is which was found last; stays true while updates leave the index alone. */
extern ItemPointerData ps_direct_root_tid(const PsDirectTable *table);

/* A copy of the visible row, of whatever key, that the index would find by way of that place, or NULL. */
extern HeapTuple ps_direct_fetch_at(PsDirectTable *table, ItemPointer place);

/*
 * Inserts a row of n values and the defaults of the other columns, at the
 * latest when the table is closed; its values must live until then. A key that
 * is there already raises as in SQL.
 */
extern void ps_direct_insert(PsDirectTable *table, const Datum *values, const bool *nulls, int n);

/* Whether rows may be inserted and taken back: in a table without other indexes that no publication has. */
extern bool ps_direct_can_speculate(const PsDirectTable *table);

/*
 * Inserts a row of all columns into such a table, and finds
 * out in the same descent of its index whether the key was taken; trial->key is
 * the caller's. What is said of the trial holds after ps_direct_flush().
 */
extern void ps_direct_insert_speculative(PsDirectTable *table, PsSpeculativeInsert *trial, const Datum *values, const bool *nulls);
extern void ps_direct_flush(PsDirectTable *table);

/* Takes back a row that this transaction inserted. */
extern void ps_direct_undo(PsDirectTable *table, ItemPointer tid);

/*
 * Which other transaction keeps a row that was found from being replaced; invalid
 * when none does. Waits for nobody.
 */
extern TransactionId ps_direct_row_holder(PsDirectTable *table, HeapTuple row);

/* A running transaction that stands behind a row's xmax, of which nothing else is known; invalid when there is none. */
extern TransactionId ps_xmax_holder(TransactionId xmax);

/* Notes in the table whether a row that the snapshot does not see is just being inserted by somebody. */
extern void ps_direct_note_insertion(PsDirectTable *table, ItemPointer tid);

/*
 * Replaces a whole row that was found; raises when somebody else changed it
 * meanwhile. Returns its new place when it has one, else NULL.
 */
extern ItemPointer ps_direct_update(PsDirectTable *table, ItemPointer tid, const Datum *values, const bool *nulls);

/* Closes it, and makes what was written visible to the next command. */
extern void ps_direct_close(PsDirectTable *table);

#endif							/* PS_DIRECT_HEAP_H */
