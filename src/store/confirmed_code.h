/*
 * confirmed_code.h
 *	  What of the definitions that make code of users run may do so: the table
 *	  confirmed_code, which no dump and no publication carries over. All need SPI.
 */
#ifndef PS_CONFIRMED_CODE_H
#define PS_CONFIRMED_CODE_H

#include "nodes/pg_list.h"
#include "store/plan.h"

/* In a statement: whether the definition of that kind and that key, an expression, is confirmed. */
#define PS_IS_CONFIRMED(kind, key) \
	"EXISTS (SELECT FROM profile_stream_internal.confirmed_code confirmed" \
	" WHERE confirmed.kind OPERATOR(pg_catalog.=) '" kind "' AND confirmed.key OPERATOR(pg_catalog.=) " key ")"

/* A definition, or one that waits to be confirmed. */
typedef struct PsDefinition
{
	const char *kind;
	const char *key;			/* in confirmed_code */
	const char *name;
	Oid			owner;			/* whose rights it runs with */
} PsDefinition;

#define PS_CONFIRM_HINT "profile_stream.stat_code shows it; its owner or a superuser lets it run with profile_stream.confirm_code()."

/* Writes a table of definitions: what is confirmed stays so. Whatever else writes them takes that back. */
extern uint64 ps_definitions_write(PsPlan *plan, Datum *args, const char *nulls, int expected);

/* Lets a definition run; as the owner of the tables. */
extern void ps_confirm(const char *kind, const char *key);

/* Those of a kind and name (NULL: any) that are not confirmed: PsDefinition. Streams are not among them. */
extern List *ps_unconfirmed(const char *kind, const char *name);

#endif							/* PS_CONFIRMED_CODE_H */
