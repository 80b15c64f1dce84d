/*
 * order_report.h
 *	  What the log says of events that came out of order.
 */
#ifndef PS_ORDER_REPORT_H
#define PS_ORDER_REPORT_H

#include "ingest/progress.h"

/* After a commit, while its items are there: notes what the log is to say. */
extern void ps_order_report_note(PsWorker *worker, const PsProgress *progress);

/* Between batches: tells the log what was noted, at most once a minute for all workers of the stream. */
extern void ps_order_report_log(PsWorker *worker);

#endif							/* PS_ORDER_REPORT_H */
