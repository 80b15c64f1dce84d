/*
 * confirmed_code.h
 *	  Which definitions of code of users are confirmed: the table confirmed_code,
 *	  which neither dumps nor publications contain. All calls need SPI.
 */
#ifndef PS_CONFIRMED_CODE_H
#define PS_CONFIRMED_CODE_H

#include "nodes/pg_list.h"
#include "store/plan.h"

/* SQL: whether the definition of this kind is confirmed; key is an expression. */
#define PS_IS_CONFIRMED(kind, key) \
	"EXISTS (SELECT FROM profile_stream_internal.confirmed_code confirmed" \
	" WHERE confirmed.kind OPERATOR(pg_catalog.=) '" kind "' AND confirmed.key OPERATOR(pg_catalog.=) " key ")"

/* A definition that is not confirmed. */
typedef struct PsDefinition
{
	const char *kind;
	const char *key;			/* its key in confirmed_code */
	const char *name;
	Oid			owner;			/* role with whose rights the code runs */
} PsDefinition;

#define PS_CONFIRM_HINT "profile_stream.stat_code shows it; its owner or a superuser lets it run with profile_stream.confirm_code()."

/* Runs a statement that writes definitions, without withdrawing confirmations as any other statement would. */
extern uint64 ps_definitions_write(PsPlan *plan, Datum *args, const char *nulls, int expected);

/* Confirms a definition. */
extern void ps_confirm(const char *kind, const char *key);

/* Whether there is a definition of that name, confirmed or not; kind NULL: any. */
extern bool ps_code_exists(const char *kind, const char *name);

/* The definitions (PsDefinition) of a kind and name that are not confirmed; NULL: any. Streams are left out. */
extern List *ps_unconfirmed(const char *kind, const char *name);

#endif							/* PS_CONFIRMED_CODE_H */
