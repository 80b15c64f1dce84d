/*
 * expired.h
 *	  Removes old chunks of event ids and dead letters in small steps. Every call needs SPI.
 */
#ifndef PS_EXPIRED_H
#define PS_EXPIRED_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "storage/block.h"

/* The bounds of a sweep over the pages of event_id_chunks. */
typedef struct PsIdChunkSweep
{
	int64		npages;
	int64		retention_us;	/* longest of all streams, and at least that of apply_event() */
} PsIdChunkSweep;

extern void ps_expired_measure(PsIdChunkSweep *sweep);

/* Deletes chunks of which no id was applied after a moment, from a range of pages; returns how many. */
extern uint64 ps_expired_forget(BlockNumber page, int npages, TimestampTz before);

/* Deletes dead letters older than a moment, oldest first; returns how many. */
extern uint64 ps_expired_discard(TimestampTz before, int limit);

/* The dead letters of a stream that exceed the limit in bytes: its oldest ones. */
typedef struct PsLetterExcess
{
	int			stream_id;
	bool		of_no_stream;	/* dead letters of apply_event() */
	int64		last_id;		/* the newest one to be removed */
	char		stream[NAMEDATALEN];
} PsLetterExcess;

/* Finds a stream whose dead letters exceed a limit in bytes. Reads all rows, but not their values. */
extern bool ps_expired_find_excess(int64 bytes, PsLetterExcess *excess);

/* Removes at most limit of the oldest of them; returns how many. */
extern uint64 ps_expired_cut(const PsLetterExcess *excess, int limit);

#endif							/* PS_EXPIRED_H */
