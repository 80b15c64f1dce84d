/*
 * rebuild_bootstrap.h
 *	  What the worker of a rebuild applies before the topic.
 */
#ifndef PS_REBUILD_BOOTSTRAP_H
#define PS_REBUILD_BOOTSTRAP_H

#include "ingest/worker.h"

/* Applies the next batch of seeds or of a backfill, in a transaction; false: there is nothing left. */
extern bool ps_rebuild_bootstrap(PsWorker *worker);

#endif							/* PS_REBUILD_BOOTSTRAP_H */
