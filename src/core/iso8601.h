/*
 * iso8601.h
 *	  Writes a timestamp as documents, notifications and attributes have it.
 *	  core/timestamp reads them, and works outside of a server, for the fuzzer.
 */
#ifndef PS_ISO8601_H
#define PS_ISO8601_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* ISO 8601 in UTC; raises for an infinite timestamp. */
extern char *ps_format_timestamp(TimestampTz at);

#endif							/* PS_ISO8601_H */
