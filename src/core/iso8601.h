/*
 * iso8601.h
 *	  Writes a timestamp as documents, notifications and attributes have it.
 *	  core/timestamp reads them, and works outside of a server, for the fuzzer.
 */
#ifndef PS_ISO8601_H
#define PS_ISO8601_H

#include "postgres.h"

#include "datatype/timestamp.h"

#define PS_ISO8601_SIZE 32		/* bytes of the longest text, with its terminator */

/* ISO 8601 in UTC, with milliseconds, or with microseconds where it has any; raises for an infinite timestamp. */
extern char *ps_format_timestamp(TimestampTz at);

/* Writes the same to out, null-terminated; returns the place of the terminator. */
extern char *ps_iso8601_put(char *out, TimestampTz at);

#endif							/* PS_ISO8601_H */
