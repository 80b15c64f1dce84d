/*
 * compat.h
 *	  What differs between PostgreSQL 15, 16, 17 and 18: the only file that
 *	  asks for PG_VERSION_NUM.
 */
#ifndef PS_COMPAT_H
#define PS_COMPAT_H

#include "postgres.h"

#include "catalog/pg_database.h"
#include "common/jsonapi.h"
#include "utils/tuplesort.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#if PG_VERSION_NUM < 150000
#error "profile_stream requires PostgreSQL 15 or later"
#endif

/*
 * Rights on a foreign server or a function are asked for with object_aclcheck() from 16 on.
 */
#if PG_VERSION_NUM >= 160000
#define ps_function_aclcheck(function, role, mode) \
	object_aclcheck(ProcedureRelationId, function, role, mode)
#define ps_server_aclcheck(server, role, mode) \
	object_aclcheck(ForeignServerRelationId, server, role, mode)
#else
#define ps_function_aclcheck(function, role, mode) \
	pg_proc_aclcheck(function, role, mode)
#define ps_server_aclcheck(server, role, mode) \
	pg_foreign_server_aclcheck(server, role, mode)
#endif

/*
 * Who gives an object to a role must be its member in 15, and from 16 on be allowed to SET ROLE to it.
 */
#if PG_VERSION_NUM >= 160000
#define ps_must_be_able_to_set_role(member, role) check_can_set_role(member, role)
#else
#define ps_must_be_able_to_set_role(member, role) check_is_member_of_role(member, role)
#endif

/*
 * The connection limit of a database whose DROP DATABASE was interrupted; the first minor releases of 15 have none.
 */
#ifndef DATCONNLIMIT_INVALID_DB
#define DATCONNLIMIT_INVALID_DB (-2)
#endif

/*
 * JSON parser callbacks return nothing in 15 and a result code from 16 on.
 */
#if PG_VERSION_NUM >= 160000
#define PS_JSON_ACTION_RESULT JsonParseErrorType
#define PS_JSON_ACTION_RETURN return JSON_SUCCESS
#else
#define PS_JSON_ACTION_RESULT void
#define PS_JSON_ACTION_RETURN return
#endif

/*
 * A JSON lexer, which may copy strings and resolve their escapes. From 17 on the
 * caller may own its memory, and it keeps more than the struct and the string buffer.
 */
static inline JsonLexContext *
ps_json_lex_make(const char *json, int len, int encoding, bool copies_strings)
{
#if PG_VERSION_NUM >= 170000
	return makeJsonLexContextCstringLen(NULL, json, len, encoding, copies_strings);
#else
	return makeJsonLexContextCstringLen(unconstify(char *, json), len, encoding, copies_strings);
#endif
}

static inline void
ps_json_lex_free(JsonLexContext *lex)
{
#if PG_VERSION_NUM >= 170000
	freeJsonLexContext(lex);
#else
	if (lex->strval != NULL)
	{
		pfree(lex->strval->data);
		pfree(lex->strval);
	}
	pfree(lex);
#endif
}

/* Asks the processor to load memory that is needed soon. */
#ifdef __GNUC__
#define ps_prefetch(address) __builtin_prefetch(address)
#else
#define ps_prefetch(address) ((void) 0)
#endif

/* What identifies the files of a relation: rd_node in 15, rd_locator from 16 on. */
#if PG_VERSION_NUM >= 160000
#define PS_RELATION_FILES(relation) ((relation)->rd_locator)
#else
#define PS_RELATION_FILES(relation) ((relation)->rd_node)
#endif

/*
 * Whether indexes need an entry for an updated row: a bool in 15. From 16 on it can
 * also say that only summarizing indexes (BRIN) need one.
 */
#if PG_VERSION_NUM >= 160000
#define PS_UPDATED_INDEXES TU_UpdateIndexes
#define PS_UPDATES_INDEXES(updates) ((updates) != TU_None)
#define PS_UPDATES_SUMMARIES_ONLY(updates) ((updates) == TU_Summarizing)
#define ps_insert_index_tuples(result, slot, estate, update, only_summarizing) \
	ExecInsertIndexTuples(result, slot, estate, update, false, NULL, NIL, only_summarizing)
#else
#define PS_UPDATED_INDEXES bool
#define PS_UPDATES_INDEXES(updates) (updates)
#define PS_UPDATES_SUMMARIES_ONLY(updates) false
#define ps_insert_index_tuples(result, slot, estate, update, only_summarizing) \
	ExecInsertIndexTuples(result, slot, estate, update, false, NULL, NIL)
#endif

/*
 * The type of an abbreviation of a time zone is returned in 15, and put into *type from 16 on.
 */
#if PG_VERSION_NUM >= 160000
#define PS_ZONE_ERROR DateTimeErrorExtra
#define ps_decode_zone_abbreviation(name, type, offset, zone, error) \
	((void) DecodeTimezoneAbbrev(0, name, type, offset, zone, error))
#else
#define PS_ZONE_ERROR int
#define ps_decode_zone_abbreviation(name, type, offset, zone, error) \
	((void) (error), *(type) = DecodeTimezoneAbbrev(0, name, offset, zone))
#endif

/*
 * The next datum of a sort: a copy in 15, and from 16 on where one is asked for.
 */
static inline bool
ps_tuplesort_getdatum(Tuplesortstate * sort, Datum *datum)
{
	bool		isnull;

#if PG_VERSION_NUM >= 160000
	return tuplesort_getdatum(sort, true, true, datum, &isnull, NULL);
#else
	return tuplesort_getdatum(sort, true, datum, &isnull, NULL);
#endif
}

/*
 * From 18 on an index scan can count what it does.
 */
#if PG_VERSION_NUM >= 180000
#define ps_index_beginscan(heap, index, snapshot, nkeys) index_beginscan(heap, index, snapshot, NULL, nkeys, 0)
#else
#define ps_index_beginscan(heap, index, snapshot, nkeys) index_beginscan(heap, index, snapshot, nkeys, 0)
#endif

/*
 * In which orders an operator compares: by strategies of btree until 17, and by what 18 calls types of
 * comparison. The numbers are the same.
 */
#if PG_VERSION_NUM >= 180000
#define PsOperatorOrder OpIndexInterpretation
#define ps_operator_orders(operator) get_op_index_interpretation(operator)
#define ps_operator_strategy(order) ((int) (order)->cmptype)
#else
#define PsOperatorOrder OpBtreeInterpretation
#define ps_operator_orders(operator) get_op_btree_interpretation(operator)
#define ps_operator_strategy(order) ((order)->strategy)
#endif

/*
 * An extension can name what it waits for from 17 on.
 */
#if PG_VERSION_NUM >= 170000
#define ps_wait_event_new(name) WaitEventExtensionNew(name)
#else
#define ps_wait_event_new(name) PG_WAIT_EXTENSION
#endif

/*
 * Settings that only some versions have, and that a worker must not take from its
 * database: transaction_timeout, from 17 on, ends the process.
 */
#if PG_VERSION_NUM >= 170000
#define PS_WORKER_SETTINGS {"transaction_timeout", "0"},
#else
#define PS_WORKER_SETTINGS
#endif

/*
 * The hook of permission checks is given range table entries in 15, and what
 * they need in a list of its own from 16 on.
 */
#if PG_VERSION_NUM >= 160000
#define PS_CHECK_PERMS_ARGS List *range_table, List *ps_checked_relations, bool raise
#define PS_CHECK_PERMS_PASS range_table, ps_checked_relations, raise
#define PsCheckedRelation RTEPermissionInfo
#else
#define PS_CHECK_PERMS_ARGS List *ps_checked_relations, bool raise
#define PS_CHECK_PERMS_PASS ps_checked_relations, raise
#define PsCheckedRelation RangeTblEntry
#endif

#endif							/* PS_COMPAT_H */
