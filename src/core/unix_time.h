/*
 * unix_time.h
 *	  Times counted from 1970, as Kafka and events have them, and from 2000, as
 *	  PostgreSQL has them.
 */
#ifndef PS_UNIX_TIME_H
#define PS_UNIX_TIME_H

#include "postgres.h"

#include "common/int.h"
#include "datatype/timestamp.h"

#define PS_UNIX_EPOCH_US ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* Microseconds since 1970; PG_INT64_MAX for the last times that a timestamptz can have, about the year 294276. */
static inline int64
ps_unix_us_of(TimestampTz at)
{
	int64		us;

	return pg_add_s64_overflow(at, PS_UNIX_EPOCH_US, &us) ? PG_INT64_MAX : us;
}

/* The time of so many microseconds since 1970. */
static inline TimestampTz
ps_timestamp_of_unix_us(int64 us)
{
	return us - PS_UNIX_EPOCH_US;
}

#endif							/* PS_UNIX_TIME_H */
