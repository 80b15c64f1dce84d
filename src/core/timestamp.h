/*
 * timestamp.h
 *	  Reads the time of an event, which is ISO 8601 or a number since 1970.
 */
#ifndef PS_TIMESTAMP_H
#define PS_TIMESTAMP_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Reads YYYY-MM-DD[(T|t| )HH:MM[:SS[(.|,)fraction]][zone]]; false when the text is not of this form. */
extern bool ps_timestamp_from_iso(const char *iso, int len, TimestampTz *result);

/* The unit of a number, with the names of create_stream(timestamp_unit). */
typedef enum PsTimeUnit
{
	PS_MILLISECONDS,
	PS_SECONDS,
	PS_MICROSECONDS,
	PS_TIME_UNITS
} PsTimeUnit;

extern const char *const ps_time_units[PS_TIME_UNITS];

/* A number before this time has another unit: seconds read as milliseconds all lie in January 1970. */
#define PS_FIRST_COUNTED_TIME (-INT64CONST(7305) * USECS_PER_DAY)	/* 1980-01-01 */

/* Reads a JSON number as a count since 1970; false when the time is out of range. */
extern bool ps_timestamp_from_epoch(const char *number, PsTimeUnit unit, TimestampTz *result);

/* Whether text is a number: digits, with or without a fraction. */
extern bool ps_timestamp_is_count(const char *text, int len);

#endif							/* PS_TIMESTAMP_H */
