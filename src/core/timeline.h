/*
 * timeline.h
 *	  When messages of a partition were produced, as a few samples of offsets: how old
 *	  the message at an offset is can then be told without keeping the messages. A
 *	  sample is taken when a second has passed since the one before. When there are too
 *	  many, every second one goes, and later ones are taken half as often.
 */
#ifndef PS_TIMELINE_H
#define PS_TIMELINE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#define PS_TIMELINE_SAMPLES 64

typedef struct PsTimelineSample
{
	int64		offset;
	TimestampTz at;
} PsTimelineSample;

/* All zero at first. */
typedef struct PsTimeline
{
	int			n;
	int			doublings;		/* of the second between two samples */
	PsTimelineSample samples[PS_TIMELINE_SAMPLES];	/* ascending offsets */
} PsTimeline;

/* Takes a sample if it is time for one. */
extern void ps_timeline_sample(PsTimeline *timeline, int64 offset, TimestampTz at);

/* Samples a message; inline, because there is nothing to do for most. */
static inline void
ps_timeline_add(PsTimeline *timeline, int64 offset, TimestampTz at)
{
	if (timeline->n == 0 || at >= timeline->samples[timeline->n - 1].at + (USECS_PER_SEC << timeline->doublings))
		ps_timeline_sample(timeline, offset, at);
}

/* The time of the message at an offset, or of one shortly before it; forgets what is older. DT_NOBEGIN: not known. */
extern TimestampTz ps_timeline_find(PsTimeline *timeline, int64 offset);

#endif							/* PS_TIMELINE_H */
