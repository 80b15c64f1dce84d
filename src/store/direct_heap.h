/*
 * direct_heap.h
 *	  Reads and writes rows of a plain table, by an index, without the executor. This
 *	  takes half the time of one statement for each batch (doc/). Tables that are not
 *	  plain are written by SQL, which the other files of the store have.
 *
 *	  plain	a heap with exactly the columns of its definition, and the index by which
 *			it is read; it has no triggers, rules, row security, generated columns,
 *			children or partitions. It may have more indexes
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

/* A row that is inserted without a look-up, and what became of it. */
typedef struct PsSpeculativeInsert
{
	Datum		key;
	ItemPointerData tid;
	bool		taken;			/* another row with the key is there, or was until recently */
} PsSpeculativeInsert;

typedef struct PsDirectTable
{
	Relation	relation;
	EState	   *estate;
	ResultRelInfo *result;		/* has the open indexes */
	IndexScanDesc scan;
	BlockNumber nblocks;		/* size of the table when it was opened */
	ScanKeyData key;
	TupleTableSlot *updated;
	TupleTableSlot *inserted[PS_DIRECT_MAX_INSERTED];	/* rows that are not written yet */
	PsSpeculativeInsert *trials[PS_DIRECT_MAX_INSERTED];	/* for each of them; NULL: it is not speculative */
	int			ninserted;
	ExprState **defaults;		/* for each column, NULL: it has none; made by the first insert */
	CommandId	command;
	bool		updates_checked;	/* publications are known to allow updates */
	bool		notes_insertions;	/* set by the caller, who wants to know inserting */
	TransactionId inserting;	/* running transaction that inserts a row with the key of the last look-up; invalid:
								 * none */
} PsDirectTable;

/* direct_check.c: whether rows may be written without the executor at all, and whether a table is plain */
extern bool ps_direct_is_allowed(void);
extern bool ps_direct_is_plain(Relation relation, const Oid *types, int ntypes, int ncolumns);

/* Raises when a row violates a NOT NULL or CHECK constraint of the table. */
extern void ps_direct_check_row(const PsDirectTable *table, TupleTableSlot *slot);

/*
 * Opens a table of the extension and its btree on one column or expression. Needs
 * an active snapshot. False when the table is not plain or cannot be used; then
 * the caller runs its statement, which raises the right error if there is one.
 */
extern bool ps_direct_open(PsDirectTable *table, const char *name, const char *index,
						   const Oid *types, int ntypes, int ncolumns);

/* A copy of the first visible row with a key, and of the next one; NULL when there is none. */
extern HeapTuple ps_direct_find(PsDirectTable *table, Datum key);
extern HeapTuple ps_direct_find_next(PsDirectTable *table);

/* The place to which the index points for the row found last. It stays valid as long as updates are HOT. */
extern ItemPointerData ps_direct_root_tid(const PsDirectTable *table);

/* A copy of the visible row that an index entry with this place leads to, or NULL. The caller checks its key. */
extern HeapTuple ps_direct_fetch_at(PsDirectTable *table, ItemPointer place);

/*
 * Inserts a row of n values, and of defaults for the other columns. The row may be
 * written as late as the table is closed, and the values must live until then.
 * Raises a unique violation as SQL does.
 */
extern void ps_direct_insert(PsDirectTable *table, const Datum *values, const bool *nulls, int n);

/* Whether rows may be inserted and taken back: the table must have one index and be in no publication of inserts. */
extern bool ps_direct_can_speculate(const PsDirectTable *table);

/*
 * Inserts a row of all columns into such a table, and finds out in the same descent
 * of its index whether the key is taken. The caller sets trial->key; the other
 * fields are valid after ps_direct_flush().
 */
extern void ps_direct_insert_speculative(PsDirectTable *table, PsSpeculativeInsert *trial, const Datum *values, const bool *nulls);
extern void ps_direct_flush(PsDirectTable *table);

/* Takes back a row that this transaction inserted. */
extern void ps_direct_undo(PsDirectTable *table, ItemPointer tid);

/*
 * The other transaction that keeps a row from being updated; invalid: there is
 * none. It does not wait.
 */
extern TransactionId ps_direct_row_holder(PsDirectTable *table, HeapTuple row);

/* A running transaction behind an xmax, which may be a multixact; invalid: there is none. */
extern TransactionId ps_xmax_holder(TransactionId xmax);

/* Sets table->inserting when a running transaction has inserted an invisible row. */
extern void ps_direct_note_insertion(PsDirectTable *table, ItemPointer tid);

/*
 * Updates all columns of a row that was found; raises when another transaction has
 * changed it since. Returns the new place that indexes point to; NULL: it is
 * unchanged, because the update was HOT.
 */
extern ItemPointer ps_direct_update(PsDirectTable *table, ItemPointer tid, const Datum *values, const bool *nulls);

/* Closes the table, and makes the written rows visible to the next command. */
extern void ps_direct_close(PsDirectTable *table);

#endif							/* PS_DIRECT_HEAP_H */
