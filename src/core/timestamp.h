/*
 * timestamp.h
 *	  The two spellings of an event's time: ISO 8601 and epoch milliseconds.
 */
#ifndef PS_TIMESTAMP_H
#define PS_TIMESTAMP_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Reads YYYY-MM-DD[(T|t| )HH:MM[:SS[(.|,)fraction]][zone]]; false when it is not one. */
extern bool ps_timestamp_from_iso(const char *iso, int len, TimestampTz *result);

/* Reads a JSON number of milliseconds since 1970; false when out of range. */
extern bool ps_timestamp_from_epoch_ms(const char *number, TimestampTz *result);

#endif							/* PS_TIMESTAMP_H */
