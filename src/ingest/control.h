/*
 * control.h
 *	  What a worker is told from outside.
 */
#ifndef PS_CONTROL_H
#define PS_CONTROL_H

#include "ingest/worker.h"

extern void ps_control_init(void);

/* Reads the stream for the first time. */
extern void ps_control_begin(PsWorker *worker);

/* Each turn: handles signals, changed settings and a changed stream. May end the process. */
extern void ps_control_serve(PsWorker *worker);

/* Called before and after a wait for work. */
extern void ps_control_waiting(PsWorker *worker, bool waiting);

#endif							/* PS_CONTROL_H */
