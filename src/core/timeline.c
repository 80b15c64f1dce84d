/*
 * timeline.c
 *	  Samples of when the messages of a partition were produced.
 */
#include "postgres.h"

#include "core/timeline.h"

void
ps_timeline_sample(PsTimeline *timeline, int64 offset, TimestampTz at)
{
	if (at == DT_NOBEGIN || (timeline->n > 0 && offset <= timeline->samples[timeline->n - 1].offset))
		return;
	if (timeline->n == PS_TIMELINE_SAMPLES)
	{
		for (int i = 1; i < PS_TIMELINE_SAMPLES / 2; i++)
			timeline->samples[i] = timeline->samples[2 * i];
		timeline->n = PS_TIMELINE_SAMPLES / 2;
		timeline->doublings++;
	}
	timeline->samples[timeline->n++] = (PsTimelineSample)
	{
		offset, at
	};
}

TimestampTz
ps_timeline_find(PsTimeline *timeline, int64 offset)
{
	int			passed = 0;

	while (passed + 1 < timeline->n && timeline->samples[passed + 1].offset <= offset)
		passed++;
	timeline->n -= passed;
	memmove(timeline->samples, timeline->samples + passed, timeline->n * sizeof(PsTimelineSample));
	if (timeline->n < PS_TIMELINE_SAMPLES / 2)
		timeline->doublings = Max(timeline->doublings - (passed > 0), 0);
	return timeline->n > 0 && timeline->samples[0].offset <= offset ? timeline->samples[0].at : DT_NOBEGIN;
}
