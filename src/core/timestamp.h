/*
 * timestamp.h
 *	  The two spellings of an event's time: ISO 8601 and a count since 1970.
 */
#ifndef PS_TIMESTAMP_H
#define PS_TIMESTAMP_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Reads YYYY-MM-DD[(T|t| )HH:MM[:SS[(.|,)fraction]][zone]]; false when it is not one. */
extern bool ps_timestamp_from_iso(const char *iso, int len, TimestampTz *result);

/* What a number counts; the names are those of create_stream(timestamp_unit). */
typedef enum PsTimeUnit
{
	PS_MILLISECONDS,
	PS_SECONDS,
	PS_MICROSECONDS,
	PS_TIME_UNITS
} PsTimeUnit;

extern const char *const ps_time_units[PS_TIME_UNITS];

/* A number that says less is of another unit: seconds that are read as milliseconds are all in January 1970. */
#define PS_FIRST_COUNTED_TIME (-INT64CONST(7305) * USECS_PER_DAY)	/* 1980-01-01 */

/* Reads a JSON number since 1970; false when out of range. */
extern bool ps_timestamp_from_epoch(const char *number, PsTimeUnit unit, TimestampTz *result);

/* Whether text is digits, with or without a fraction, and so a number. */
extern bool ps_timestamp_is_count(const char *text, int len);

#endif							/* PS_TIMESTAMP_H */
