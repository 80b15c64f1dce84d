/*
 * topics.h
 *	  The topics of a worker's stream.
 */
#ifndef PS_TOPICS_H
#define PS_TOPICS_H

#include "ingest/worker.h"

/* Reads which topics the stream has, if it was read anew; before the broker is asked about them. */
extern void ps_topics_update(PsWorker *worker);

#endif							/* PS_TOPICS_H */
