/*
 * iso8601.h
 *	  How documents, notifications and attributes write a timestamp.
 */
#ifndef PS_ISO8601_H
#define PS_ISO8601_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* ISO 8601 in UTC; raises for what is not finite. */
extern char *ps_format_timestamp(TimestampTz at);

#endif							/* PS_ISO8601_H */
