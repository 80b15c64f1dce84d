/*
 * metering.h
 *	  Measures what a worker commits.
 */
#ifndef PS_METERING_H
#define PS_METERING_H

#include "ingest/progress.h"

/* After the commit of a transaction that began then. */
extern void ps_metering_commit(PsWorker *worker, const PsProgress *progress, PsMoment began);

#endif							/* PS_METERING_H */
