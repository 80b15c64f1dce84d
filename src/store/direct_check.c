/*
 * direct_check.c
 *	  Decides whether direct_heap.c may write a table without the executor, and checks
 *	  the rows that it writes. The executor (nodeModifyTable.c, execMain.c and
 *	  execReplication.c) does the following for INSERT and UPDATE. On the right is how
 *	  we do it, where "not plain" means that we leave it to the executor:
 *
 *	  kind of relation, table access method		not plain: ps_direct_is_plain()
 *	  partitions, their constraints, children	not plain
 *	  triggers of any kind, so foreign keys, constraint triggers and
 *	  transition tables too						not plain
 *	  rules, row security						not plain
 *	  generated columns, identity columns		not plain
 *	  a type, or a length of one, that is not ours, and so a coercion
 *												not plain
 *	  columns that were added or dropped		not plain
 *	  exclusion and deferrable constraints		not plain: open_indexes()
 *	  hooks that check rights or audit			not taken: ps_direct_is_allowed()
 *	  rights									those of the tables' owner: owner.c
 *	  read-only transactions					not taken, so that the executor
 *												complains: ps_direct_open()
 *	  NOT NULL and CHECK constraints			ps_direct_check_row()
 *	  defaults of columns that we do not write	ps_direct_insert()
 *	  replica identity, row filters and column lists of publications
 *												CheckCmdReplicaIdentity()
 *	  unique, partial and expression indexes, HOT, summarizing indexes
 *												ExecInsertIndexTuples()
 *	  a row that changed meanwhile				ps_direct_update() raises
 *	  predicate locks of SERIALIZABLE			taken by heap and nbtree
 *
 *	  test/sql/direct_access.sql shows each of them.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "settings.h"
#include "store/direct_heap.h"
#include "store/owner.h"
#include "store/user_code.h"
#include "utils/rel.h"

bool
ps_direct_is_allowed(void)
{
	/* an extension with that hook, as sepgsql or pgaudit, wants to see every statement */
	return ps_direct_access && !ps_user_code_others_check();
}

bool
ps_direct_is_plain(Relation relation, const Oid *types, int ntypes, int ncolumns)
{
	TupleDesc	desc = RelationGetDescr(relation);

	if (relation->rd_rel->relkind != RELKIND_RELATION ||
		relation->rd_rel->relam != HEAP_TABLE_AM_OID ||
		relation->rd_rel->relispartition || relation->rd_rel->relhassubclass ||
		relation->rd_rel->relrowsecurity ||
		relation->trigdesc != NULL || relation->rd_rules != NULL ||
		desc->natts != ncolumns ||
		(desc->constr != NULL && desc->constr->has_generated_stored))
		return false;
	for (int i = 0; i < ncolumns; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		/* our columns have types without a length or precision */
		if (column->attisdropped || column->attidentity != '\0' || column->atttypmod != -1 ||
			(i < ntypes && column->atttypid != types[i]))
			return false;
	}
	return true;
}

bool
ps_direct_is_index_of(Relation index, Relation relation, const Oid *types, int nkeys)
{
	if (index->rd_rel->relam != BTREE_AM_OID || index->rd_index->indrelid != RelationGetRelid(relation) ||
		!index->rd_index->indisvalid || index->rd_index->indnkeyatts < nkeys ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		return false;
	for (int i = 0; i < nkeys; i++)
		if (index->rd_index->indkey.values[i] != i + 1 || index->rd_opcintype[i] != types[i] ||
			(types[i] == TEXTOID && index->rd_indcollation[i] != C_COLLATION_OID))
			return false;
	return true;
}

void
ps_direct_check_row(const PsDirectTable *table, TupleTableSlot *slot)
{
	if (RelationGetDescr(table->relation)->constr != NULL)
	{
		PsSavedUser saved = ps_switch_to_owner();	/* constraints may call functions */

		ExecConstraints(table->result, slot, table->estate);
		ps_restore_user(saved);
	}
	ResetPerTupleExprContext(table->estate);
}
