/*
 * calendar.h
 *	  Days, weeks and months of a time zone.
 *
 *	  period    a day, an ISO week or a month; it begins with the first moment that
 *	            has its first date in the zone
 *	  stretch   a time in which a zone has one offset from UTC
 */
#ifndef PS_CALENDAR_H
#define PS_CALENDAR_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "pgtime.h"

typedef enum PsPeriod
{
	PS_PERIOD_NONE,
	PS_PERIOD_DAY,
	PS_PERIOD_WEEK,
	PS_PERIOD_MONTH,
	PS_PERIOD_LIFETIME			/* it has no begin */
} PsPeriod;

typedef struct PsZoneStretch
{
	TimestampTz from;			/* it is known from this moment on */
	TimestampTz to;				/* its end, which is not part of it */
	int64		offset_us;
} PsZoneStretch;

#define PS_MAX_OFFSET_DAYS 8	/* a zone in POSIX' form may be up to 167 hours from UTC */

/* Finds a period by name; false when there is none. */
extern bool ps_period_find(const char *name, PsPeriod *period);

/* How many days a period has at most, where a zone repeats or skips some of it; 0 for a lifetime. */
extern int	ps_period_days(PsPeriod period);

/* When the period began in which a moment lies. */
extern TimestampTz ps_period_begin(PsPeriod period, pg_tz * zone, TimestampTz at);

/*
 * The zone of a name, as AT TIME ZONE takes it: CET is an abbreviation and has one
 * offset, Europe/Vienna has summers. Raises when there is none, or returns NULL.
 */
extern pg_tz * ps_zone_find(const char *name, bool missing_ok);

/* The offset of a zone at a moment, and until when it stays. */
extern void ps_zone_stretch(pg_tz * zone, TimestampTz at, PsZoneStretch *stretch);

/* The date that a moment has with an offset, in days since 2000. */
extern int	ps_zone_day(TimestampTz at, int64 offset_us);

#endif							/* PS_CALENDAR_H */
