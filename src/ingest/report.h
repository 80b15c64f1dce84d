/*
 * report.h
 *	  What a worker reports outside of its transactions, so that it is true also
 *	  while a transaction hangs. The report is a dynamic shared memory segment. A
 *	  session finds it by an advisory lock of the worker, whose key is the handle.
 */
#ifndef PS_REPORT_H
#define PS_REPORT_H

#include "ingest/worker.h"
#include "process/meter.h"
#include "storage/dsm.h"
#include "storage/spin.h"

#define PS_REPORT_COMPLAINT 512

/* A partition that the worker reads. */
typedef struct PsReportedEnd
{
	int32		topic_no;
	int32		partition;
	int64		end_offset;		/* -1: not asked for */
	volatile TimestampTz oldest_at; /* no message that is not applied has waited since before; DT_NOBEGIN: not known */
	TimestampTz since;			/* when the worker took it */
	PsRate		rates[PS_METER_PERIODS];
} PsReportedEnd;

#define PS_MAX_FLUSHES 8		/* customers that are flushed at a time */

/*
 * What sessions ask of a worker: to apply held messages now. The worker does what was
 * asked for together; what stays asked for after an error is done again.
 */
typedef struct PsFlushes
{
	slock_t		mutex;			/* of all that follows */
	uint64		asked;			/* number of the newest request */
	uint64		done;			/* requests up to this one are done */
	int64		released;		/* messages that were released, ever */
	int64		deferred;		/* messages that were deferred when the last request was done */
	bool		all;			/* release the messages of all customers */
	int			ncustomers;		/* or of these */
	char		customers[PS_MAX_FLUSHES][PS_MAX_ID_BYTES + 1];
} PsFlushes;

/* Sessions read it while it is written: numbers are read whole, and the text always has its end. */
typedef struct PsReport
{
	volatile TimestampTz turn_began;	/* 0: it waits for work */
	volatile TimestampTz pending;	/* of a rebuild: Kafka timestamp of the first message that is not applied;
									 * DT_NOBEGIN: unknown, DT_NOEND: there is none */
	volatile bool broker_away;	/* it does not answer: end offsets may be old */
	char		complaint[PS_REPORT_COMPLAINT]; /* the lock that it waits for again and again; empty: none */
	volatile bool ended;		/* it is no longer written: the process ends, or reports elsewhere */
	volatile uint64 assignments;	/* how often partitions were assigned */
	PsFlushes	flushes;
	volatile int npartitions;
	int			capacity;
	PsReportedEnd ends[FLEXIBLE_ARRAY_MEMBER];
} PsReport;

/* Reports the partitions that are assigned now. */
extern void ps_report_assign(PsWorker *worker);

/* A turn of the loop begins, or ends. polls: it polls Kafka, so that the thread need not ask. */
extern void ps_report_turn(bool begins, bool polls);

/*
 * For rebuilds of several streams: reports how far this one is, and asks how far the others
 * are that it has beside itself. DT_NOBEGIN: one of them does not run.
 */
extern void ps_report_pending(TimestampTz pending);
extern TimestampTz ps_report_pending_beside(const PsWorker *worker);

/* Reports of the partition at a place among those that are assigned: since when its oldest message waits; and counts of a commit. */
extern void ps_report_oldest(int place, TimestampTz oldest);
extern void ps_report_rate(int place, const PsCounts *counts, TimestampTz now);

/* Reports whether the broker is away. */
extern void ps_report_broker(bool away);

/* Reports which lock the process waits for, NULL: none. */
extern void ps_report_complain(const char *complaint);

/* What sessions ask of this process; NULL: they cannot. */
extern PsFlushes *ps_report_flushes(void);

/* Before the client is closed: tells the thread to stop using it. False: the thread uses it at the moment. */
extern bool ps_report_end(void);

#endif							/* PS_REPORT_H */
