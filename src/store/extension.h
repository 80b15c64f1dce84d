/*
 * extension.h
 *	  Whether the objects in the database and the library that runs are of one
 *	  version.
 */
#ifndef PS_EXTENSION_H
#define PS_EXTENSION_H

#include "postgres.h"

/* The version of the extension's objects in this database, NULL when it is not there. */
extern char *ps_extension_version(void);

/* What is wrong, NULL when both are of one version; cheap once they were found to be. The hint says what to do. */
extern char *ps_extension_mismatch(const char **hint);

/* Raises what is wrong. */
extern void ps_extension_check(void);

/* Whether a function was changed since the last check, as an update of the extension does. */
extern bool ps_extension_is_doubtful(void);

/* Less than 0, 0 or more, as one version is before another one, part by part. */
extern int	ps_extension_compare(const char *a, const char *b);

#endif							/* PS_EXTENSION_H */
