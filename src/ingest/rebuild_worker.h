/*
 * rebuild_worker.h
 *	  The worker of a rebuild, whose process uses the rebuild schema: what it does
 *	  besides the work of a stream's worker.
 */
#ifndef PS_REBUILD_WORKER_H
#define PS_REBUILD_WORKER_H

#include "ingest/worker.h"

/* Refuses, with an error of the look-up, an answer that lacks a topic: the rebuild could not tell what is missing of it. */
extern void ps_rebuild_check_answer(PsWorker *worker);

/* Gives every partition of the look-up a row; ends the process when the topic has lost messages. */
extern void ps_rebuild_begin(PsWorker *worker);

/* Says that the rebuild is ready once it has read to what was the end of the topic. */
extern void ps_rebuild_follow(PsWorker *worker);

#endif							/* PS_REBUILD_WORKER_H */
