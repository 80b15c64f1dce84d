/*
 * retention.h
 *	  Removes what has expired.
 */
#ifndef PS_RETENTION_H
#define PS_RETENTION_H

#include "ingest/worker.h"

/* Does a step of retention when one is due. */
extern void ps_retention(PsWorker *worker);

/* After an error of a step: the stream runs on, and the next step waits longer each time. */
extern void ps_retention_failed(PsWorker *worker, const char *reason);

#endif							/* PS_RETENTION_H */
