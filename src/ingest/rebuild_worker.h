/*
 * rebuild_worker.h
 *	  The worker of a rebuild: a worker whose process uses the shadow. What it
 *	  does otherwise than the worker of a stream, the others ask here.
 */
#ifndef PS_REBUILD_WORKER_H
#define PS_REBUILD_WORKER_H

#include "ingest/worker.h"

/* Sees to it that every partition of the look-up has a row; ends the process when the topic has lost its beginning. */
extern void ps_rebuild_begin(PsWorker *worker);

/* Notes when the rebuild has reached what was the end of the topic. */
extern void ps_rebuild_follow(PsWorker *worker);

#endif							/* PS_REBUILD_WORKER_H */
