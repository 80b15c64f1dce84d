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
#include "storage/buf.h"
#include "utils/relcache.h"

#define PS_DIRECT_MAX_INSERTED 250

typedef struct PsDirectTable
{
	Relation	relation;
	MemoryContext context;		/* lives as long as the table is open; rows may have another one */
	EState	   *estate;
	ResultRelInfo *result;		/* has the open indexes */
	IndexScanDesc scan;
	Buffer		buffer;			/* with the row that the last look-up found */
	BlockNumber nblocks;		/* size of the table when it was opened */
	ScanKeyData key;
	TupleTableSlot *updated;
	TupleTableSlot *inserted[PS_DIRECT_MAX_INSERTED];	/* rows that are not written yet */
	ItemPointer places[PS_DIRECT_MAX_INSERTED]; /* where their callers want to know where they are */
	int			ninserted;
	ExprState **defaults;		/* for each column, NULL: it has none; made by the first insert */
	CommandId	command;
	bool		updates_checked;	/* publications are known to allow updates */
	TransactionId inserting;	/* running transaction that inserts a row with the key of the last look-up; invalid:
								 * none */
} PsDirectTable;

/* direct_check.c: whether rows may be written without the executor at all, and whether a table is plain */
extern bool ps_direct_is_allowed(void);
extern bool ps_direct_is_plain(Relation relation, const Oid *types, int ntypes, int ncolumns);

/* Whether an index is a complete btree of the table that begins with its first columns, where texts are in the order of bytes. */
extern bool ps_direct_is_index_of(Relation index, Relation relation, const Oid *types, int nkeys);

/* Raises when a row violates a NOT NULL or CHECK constraint of the table. */
extern void ps_direct_check_row(const PsDirectTable *table, TupleTableSlot *slot);

/*
 * Opens a table of the extension and its btree on the first column, a text. Needs
 * an active snapshot. False when the table is not plain or cannot be used; then
 * the caller runs its statement, which raises the right error if there is one.
 */
extern bool ps_direct_open(PsDirectTable *table, const char *name, const char *index,
						   const Oid *types, int ntypes, int ncolumns);

/* A copy of the first visible row with a key; NULL when there is none. */
extern HeapTuple ps_direct_find(PsDirectTable *table, Datum key);

/* The place to which the index points for the row found last. It stays valid as long as updates are HOT. */
extern ItemPointerData ps_direct_root_tid(const PsDirectTable *table);

/*
 * A copy of the visible row that an index entry with this place leads to, or NULL. The
 * caller checks its key. *seen is the buffer in which its page was seen last, or
 * InvalidBuffer, and becomes the one in which it is.
 */
extern HeapTuple ps_direct_fetch_at(PsDirectTable *table, ItemPointer place, Buffer *seen);

/* Loads the begin of a page that was seen there, and then its row, into the processor's cache. */
extern void ps_direct_prefetch_page(const ItemPointerData *place, Buffer seen);
extern void ps_direct_prefetch_row(const ItemPointerData *place, Buffer seen);

/*
 * Inserts a row of n values, and of defaults for the other columns. It may be written as
 * late as the table is closed or flushed. Until then the values must live, and *place,
 * which becomes the place of the row. Raises a unique violation as SQL does.
 */
extern void ps_direct_insert(PsDirectTable *table, const Datum *values, const bool *nulls, int n, ItemPointer place);

/* Writes the rows that wait to be inserted: from now on nobody needs their values. */
extern void ps_direct_flush(PsDirectTable *table);

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

/* Raises because another transaction has changed a row of the table since it was read. */
extern void ps_direct_complain_of_change(const char *table);

/* Closes the table, and makes the written rows visible to the next command. */
extern void ps_direct_close(PsDirectTable *table);

#endif							/* PS_DIRECT_HEAP_H */
