/*
 * expired.h
 *	  What retention takes, a small step at a time. Every call needs SPI.
 */
#ifndef PS_EXPIRED_H
#define PS_EXPIRED_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "storage/block.h"

/* What a sweep over the pages of event_ids has to know. */
typedef struct PsEventIdSweep
{
	int64		npages;
	int64		retention_us;	/* the longest of all streams, and what apply_event() counts on */
} PsEventIdSweep;

extern void ps_expired_event_ids(PsEventIdSweep *sweep);

/* Deletes ids seen no later than a moment from some pages; returns how many. */
extern uint64 ps_expired_forget(BlockNumber page, int npages, TimestampTz before);

/* Deletes dead letters older than a moment, oldest first; returns how many. */
extern uint64 ps_expired_discard(TimestampTz before, int limit);

/* Dead letters that are more than a stream's may be in bytes: the oldest. */
typedef struct PsLetterExcess
{
	int			stream_id;
	bool		of_no_stream;	/* those of apply_event() */
	int64		last_id;		/* of those to go */
	char		stream[NAMEDATALEN];
} PsLetterExcess;

/* Looks for a stream whose dead letters take more than so many bytes; reads all letters, but not what they hold. */
extern bool ps_expired_find_excess(int64 bytes, PsLetterExcess *excess);

/* Discards the oldest of them, at most so many; returns how many. */
extern uint64 ps_expired_cut(const PsLetterExcess *excess, int limit);

#endif							/* PS_EXPIRED_H */
