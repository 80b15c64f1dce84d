/*
 * direct_reader.h
 *	  Reads rows of a table of the extension by an index, without the executor and
 *	  with the caller's rights: for functions that are called once for each row of a
 *	  query, where a statement would cost more than the row.
 */
#ifndef PS_DIRECT_READER_H
#define PS_DIRECT_READER_H

#include "postgres.h"

#include "access/genam.h"
#include "access/skey.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"

#define PS_DIRECT_READER_MAX_KEYS 2

typedef struct PsDirectReader
{
	Relation	relation;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	ScanKeyData keys[PS_DIRECT_READER_MAX_KEYS];	/* conditions on the first columns of the index */
	int			nkeys;
} PsDirectReader;

/*
 * Opens a table whose first columns have these types, and a btree on its first
 * nkeys columns. Needs an active snapshot, with which it reads. False when the
 * caller may not read the whole table, when row security may hide rows, or when
 * the table is not as we made it: then the caller runs a statement, which is
 * right in each of these cases.
 */
extern bool ps_direct_reader_open(PsDirectReader *reader, const char *name, const char *index, const Oid *types, int ntypes, int nkeys);

/* Sets the text to which a column of the index must be equal. */
extern void ps_direct_reader_set_text(PsDirectReader *reader, int column, const text *value);

/* Begins to read the rows of the conditions, in the order of the index. */
extern void ps_direct_reader_begin(PsDirectReader *reader);

/* The next row, with its values unpacked; valid until the next call. NULL: there is none. */
extern TupleTableSlot *ps_direct_reader_next(PsDirectReader *reader);

/* Closes the table. Its lock is kept until the transaction ends, as a statement keeps it. */
extern void ps_direct_reader_close(PsDirectReader *reader);

#endif							/* PS_DIRECT_READER_H */
