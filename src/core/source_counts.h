/*
 * source_counts.h
 *	  How many events of each source were applied, and the time of the newest one.
 *	  The number of sources that are told apart is bounded: anybody may name one.
 */
#ifndef PS_SOURCE_COUNTS_H
#define PS_SOURCE_COUNTS_H

#include "postgres.h"

#include "datatype/timestamp.h"

#define PS_MAX_COUNTED_SOURCES 32	/* told apart; the first ones that come */
#define PS_MAX_SOURCE_BYTES 100 /* a longer one is not told apart */
#define PS_OTHER_SOURCES "(other)"

typedef struct PsSourceCount
{
	const char *source;			/* not terminated */
	int			len;			/* 0: the events name none */
	int64		applied;
	TimestampTz last_event_at;
} PsSourceCount;

typedef struct PsSourceCounts
{
	PsSourceCount *counts;		/* NULL: none yet */
	int			n;
	int			last;			/* the one that was counted last */
} PsSourceCounts;

/* Counts events of a source, which must live as long as the counts; NULL: they name none. */
extern void ps_source_counts_add(PsSourceCounts *counts, const char *source, int len, int64 applied, TimestampTz at);

/* Adds packed counts, whose bytes are shared; false: they are damaged. */
extern bool ps_source_counts_load(PsSourceCounts *counts, const char *bytes, int len);
extern bytea *ps_source_counts_save(const PsSourceCounts *counts);

#endif							/* PS_SOURCE_COUNTS_H */
