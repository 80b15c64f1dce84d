/*
 * extension.h
 *	  Compares the version of the library with that of the objects in the database.
 */
#ifndef PS_EXTENSION_H
#define PS_EXTENSION_H

#include "postgres.h"

#include "fmgr.h"
#include "store/distributed_gate.h"

/*
 * Declares an SQL function that runs only where the library and the objects have one
 * version: between a restart and ALTER EXTENSION a database calls a new library by old
 * definitions, whose arguments may be others. Where profiles are distributed, it runs as
 * distributed_gate.h says. Its body is the function name_checked().
 *
 * What is declared by PG_FUNCTION_INFO_V1() alone runs always: triggers, validators of
 * options, and what shows states. .ci/check-lists sees to it that arguments and results
 * of these stay what they were in every release.
 */
#define PS_FUNCTION(name) \
	PG_FUNCTION_INFO_V1(name); \
	static Datum name##_checked(PG_FUNCTION_ARGS); \
	Datum \
	name(PG_FUNCTION_ARGS) \
	{ \
		ps_extension_check(); \
		return ps_distributed_gate(fcinfo, name##_checked); \
	} \
	extern Datum name(PG_FUNCTION_ARGS)

/* The version of the extension in this database; NULL when it is not installed. */
extern char *ps_extension_version(void);

/* Returns NULL when both versions are equal, else an error and a hint. Cheap once they were found equal. */
extern char *ps_extension_mismatch(const char **hint);

/* Raises unless both versions are equal. */
extern void ps_extension_check(void);

/* Whether a function was changed since the last check, so that the extension may have been updated. */
extern bool ps_extension_is_doubtful(void);

#endif							/* PS_EXTENSION_H */
