/*
 * day_sums.h
 *	  Sums of samples by day of a time zone.
 */
#ifndef PS_DAY_SUMS_H
#define PS_DAY_SUMS_H

#include "core/calendar.h"
#include "core/window.h"
#include "utils/date.h"

typedef struct PsDaySum
{
	DateADT		day;
	int64		count;
	Numeric		sum;
	Numeric		min;
	Numeric		max;
} PsDaySum;

typedef struct PsDaySums
{
	DateADT		from_day;		/* other days are left out; may be infinite */
	DateADT		to_day;
	pg_tz	   *zone;
	PsZoneStretch stretch;		/* the one that was needed last */
	PsDaySum   *sums;			/* sorted by day */
	int			nsums;
	int			capacity;
} PsDaySums;

extern void ps_day_sums_init(PsDaySums *sums, DateADT from_day, DateADT to_day, pg_tz * zone);

/* Forgets the sums; the memory that they are in is the caller's to free. */
extern void ps_day_sums_clear(PsDaySums *sums);

/* A moment that no sample of the days precedes. */
extern TimestampTz ps_day_sums_from(const PsDaySums *sums);

/* Adds packed samples. */
extern void ps_day_sums_add_samples(PsDaySums *sums, const char *bytes, int len);

/* Adds a chunk with samples. */
extern void ps_day_sums_add_chunk(PsDaySums *sums, const PsChunk *chunk);

/* Adds the sums of a day of UTC. False when one of the days is asked for and has only a part of it. */
extern bool ps_day_sums_add_bucket(PsDaySums *sums, const PsDaySum *bucket);

#endif							/* PS_DAY_SUMS_H */
