/*
 * health.h
 *	  When a stream had better not run.
 */
#ifndef PS_HEALTH_H
#define PS_HEALTH_H

#include "ingest/worker.h"

/* Counts this start; ends the process when too many starts came to nothing. */
extern void ps_health_start(PsWorker *worker);

/* The broker answered, or did not: the start succeeded. */
extern void ps_health_answered(PsWorker *worker);

/* A batch begins. */
extern void ps_health_begin(PsWorker *worker);

/* Counts what a transaction committed. */
extern void ps_health_count(PsWorker *worker, const PsCounts *counts);

/*
 * Between batches: forgets the counted attempts after a commit, and pauses the stream
 * when too many messages became dead letters. ps_control_serve() then ends the worker.
 */
extern void ps_health_check(PsWorker *worker);

#endif							/* PS_HEALTH_H */
