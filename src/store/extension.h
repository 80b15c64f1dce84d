/*
 * extension.h
 *	  Compares the version of the library with that of the objects in the database.
 */
#ifndef PS_EXTENSION_H
#define PS_EXTENSION_H

#include "postgres.h"

/* The version of the extension in this database; NULL when it is not installed. */
extern char *ps_extension_version(void);

/* Returns NULL when both versions are equal, else an error and a hint. Cheap once they were found equal. */
extern char *ps_extension_mismatch(const char **hint);

/* Raises unless both versions are equal. */
extern void ps_extension_check(void);

/* Whether a function was changed since the last check, so that the extension may have been updated. */
extern bool ps_extension_is_doubtful(void);

/* Compares two versions part by part; the result is as that of strcmp(). */
extern int	ps_extension_compare(const char *a, const char *b);

#endif							/* PS_EXTENSION_H */
