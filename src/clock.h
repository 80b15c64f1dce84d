/*
 * clock.h
 *	  The monotonic clock, for waits and intervals: setting the machine's time
 *	  neither ends nor prolongs them. Times that are stored, shown or compared with
 *	  events are of type TimestampTz instead.
 */
#ifndef PS_CLOCK_H
#define PS_CLOCK_H

#include "postgres.h"

#include "portability/instr_time.h"

typedef int64 PsMoment;			/* microseconds since some start */

#define PS_MOMENT_PAST PG_INT64_MIN
#define PS_MOMENT_NEVER PG_INT64_MAX

static inline PsMoment
ps_clock_now(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (PsMoment) INSTR_TIME_GET_MICROSEC(now);
}

static inline PsMoment
ps_moment_plus(PsMoment moment, int64 ms)
{
	return moment + ms * 1000;
}

/* Milliseconds from now until a moment, rounded up; 0 when it has passed. */
static inline int64
ps_clock_left(PsMoment moment)
{
	int64		left = moment - ps_clock_now();

	return left <= 0 ? 0 : (left + 999) / 1000;
}

#endif							/* PS_CLOCK_H */
