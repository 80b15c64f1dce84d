/*
 * report.h
 *	  What a worker tells beside its transactions, in a dynamic shared memory segment
 *	  of its own: so it is true also while a transaction hangs. Whoever reads it
 *	  finds the segment by a lock that the worker holds: its key is the handle.
 */
#ifndef PS_REPORT_H
#define PS_REPORT_H

#include "ingest/worker.h"
#include "storage/dsm.h"

#define PS_REPORT_COMPLAINT 512

typedef struct PsReportedEnd
{
	int32		partition;
	int64		end_offset;		/* -1: not asked for */
} PsReportedEnd;

/* Members are read while they are written: numbers are whole, and the text always ends. */
typedef struct PsReport
{
	volatile TimestampTz turn_began;	/* 0: it waits for work */
	char		complaint[PS_REPORT_COMPLAINT]; /* what it waits for again and again; empty: for nothing */
	volatile int npartitions;
	int			capacity;
	PsReportedEnd ends[FLEXIBLE_ARRAY_MEMBER];
} PsReport;

/* Reports the partitions that are assigned now. */
extern void ps_report_assign(PsWorker *worker);

/* A turn of the loop begins, or ends; reads: it polls Kafka, so that the thread need not ask. What the process waits for, NULL: for nothing. */
extern void ps_report_turn(PsWorker *worker, bool begins, bool reads);
extern void ps_report_complain(const char *complaint);

/* Before the client is closed: whether nobody uses it any more. */
extern bool ps_report_end(void);

#endif							/* PS_REPORT_H */
