/*
 * life.h
 *	  The state of a worker's life. Only these functions change it; life.c has the
 *	  table of the changes.
 */
#ifndef PS_LIFE_H
#define PS_LIFE_H

#include "ingest/worker.h"

/* Whether the worker has become the stream's worker and has read the stream. */
extern bool ps_life_has_started(const PsWorker *worker);

/* Whether the worker has partitions that are read, or would be if there were memory. */
extern bool ps_life_has_partitions(const PsWorker *worker);

/* The steps of a good start. */
extern void ps_life_started(PsWorker *worker);
extern void ps_life_connected(PsWorker *worker);
extern void ps_life_assigned(PsWorker *worker);

/* Gives up the partitions and looks the topic up again: they are read from their stored offsets. */
extern void ps_life_look_up(PsWorker *worker);

/* Notes whether deferred messages fill the memory. */
extern void ps_life_set_blocked(PsWorker *worker, bool blocked);

/* After an error: waits for the next attempt, then goes on where the error came. */
extern void ps_life_back_off(PsWorker *worker, int64 wait_ms);

/* Ends a back-off early, because the reason for the error may be gone. */
extern void ps_life_go_on(PsWorker *worker);

/* Each turn of the loop: ends a back-off whose time has come. */
extern void ps_life_turn(PsWorker *worker);

/* Around the last batches of a worker that stops. */
extern void ps_life_stop(PsWorker *worker);
extern void ps_life_stopped(PsWorker *worker);

#endif							/* PS_LIFE_H */
