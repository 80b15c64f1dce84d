/*
 * rebuild_worker.h
 *	  The worker of a rebuild: a worker whose process uses the shadow. What it
 *	  does otherwise than the worker of a stream, the others ask here.
 */
#ifndef PS_REBUILD_WORKER_H
#define PS_REBUILD_WORKER_H

#include "ingest/worker.h"

/* Registers a rebuild's worker; false when no slot is free. */
extern bool ps_rebuild_register(int stream_id, Oid owner);

/* Starts the worker of this database's rebuild if it shall run and does not; returns how many. Needs SPI. */
extern int	ps_rebuild_start_worker(void);

/* The settings under which a stream is rebuilt; needs SPI. */
extern void ps_rebuild_adjust(PsStream *stream);

/* Sees to it that every partition of the look-up has a row; ends the process when the topic has lost its beginning. */
extern void ps_rebuild_begin(PsWorker *worker);

/* Notes when the rebuild has reached what was the end of the topic. */
extern void ps_rebuild_follow(PsWorker *worker);

/* What a running rebuild says of itself. */
extern const char *ps_rebuild_state(const char *state);

#endif							/* PS_REBUILD_WORKER_H */
