/*
 * format.h
 *	  How documents, notifications and attributes write a timestamp.
 */
#ifndef PS_FORMAT_H
#define PS_FORMAT_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* ISO 8601 in UTC; raises for what is not finite. */
extern char *ps_format_timestamp(TimestampTz at);

#endif							/* PS_FORMAT_H */
