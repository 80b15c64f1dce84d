/*
 * flush.h
 *	  Applying held messages at once, because a session asks for it.
 */
#ifndef PS_FLUSH_H
#define PS_FLUSH_H

#include "ingest/worker.h"

/* Does what sessions ask for, if they do. Raises errors of the batches; it is done again later then. */
extern void ps_flush_serve(PsWorker *worker);

#endif							/* PS_FLUSH_H */
