/*
 * meter.h
 *	  What a worker or relay does, measured over the last minute, in shared memory. It
 *	  belongs to the process: when the process is gone, nothing is shown. So what is
 *	  shown is never old. A session finds it as a report (ingest/report.h), by an
 *	  advisory lock.
 *
 *	  period	five seconds. The last minute is the present period and the eleven
 *				before it: 55 to 60 seconds, and less for a process that is younger.
 */
#ifndef PS_METER_H
#define PS_METER_H

#include "postgres.h"

#include "core/histogram.h"
#include "datatype/timestamp.h"
#include "message.h"
#include "storage/dsm.h"

#define PS_METER_PERIODS 12

/* How much was read in a period, and how much of it had an effect. */
typedef struct PsRate
{
	int64		period;			/* its number; another one: the rest is of a period long ago */
	int64		items;
	int64		done;
} PsRate;

/* Counts in the present one of PS_METER_PERIODS rates. */
extern void ps_rate_add(PsRate *rates, int64 items, int64 done, TimestampTz now);

/* Items and done ones a second over the last minute, or since it was begun. */
extern void ps_rate_read(const PsRate *rates, TimestampTz begun, TimestampTz now, double *items, double *done);

#define PS_METER_KIND(kind) int64 kind;

/* A batch: one transaction of a worker, or one delivery of a relay. */
typedef struct PsMeterBatch
{
	int64		items;			/* messages, or what was to be delivered */
	int64		read;			/* messages that were read first, which may have waited since; items of a relay */
	int64		done;			/* events that were applied, or what was delivered */
	int64		us;				/* how long it took */
	struct
	{
		PS_LETTER_KINDS(PS_METER_KIND,)
	}			letters;		/* dead letters by kind */
} PsMeterBatch;

typedef struct PsMeterPeriod
{
	int64		period;
	int64		batches;
	PsMeterBatch sum;
	int64		most_items;		/* of a batch */
	int64		longest_us;
	int64		latency[PS_HISTOGRAM_BUCKETS];
} PsMeterPeriod;

typedef struct PsMeter
{
	int			number;			/* of the process, as in PsProcess */
	TimestampTz begun;
	volatile int64 memory_bytes;
	PsRate		rates[PS_METER_PERIODS];
	PsMeterPeriod periods[PS_METER_PERIODS];
} PsMeter;

/* Begins to measure this process. */
extern void ps_meter_begin(int stream_id, int number);

/* A turn of the process's loop: measures its memory now and then. */
extern void ps_meter_turn(void);

/* Counts a batch; letters may be all zero. */
extern void ps_meter_batch(const PsMeterBatch *batch);

/* The histogram of the present period, for the latencies of a batch's items. */
extern int64 *ps_meter_latency(void);

/* Sums of the last minute, of one process or several. */
typedef struct PsMeterSum
{
	double		items_per_second;
	double		done_per_second;
	int64		memory_bytes;
	TimestampTz begun;			/* of the oldest process */
	PsMeterPeriod minute;
} PsMeterSum;

/* Adds a process to sums that are all zero at first. */
extern void ps_meter_add(PsMeterSum *sum, const PsMeter *meter, TimestampTz now);

/*
 * Opens a segment that another process, or this one, has published, and closes it.
 * NULL: it is gone. *ours: it is this process's own, and stays open.
 */
extern dsm_segment *ps_segment_open(uint32 handle, bool *ours);
extern void ps_segment_close(dsm_segment *segment, bool ours);

#endif							/* PS_METER_H */
