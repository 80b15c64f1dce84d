/*
 * assignment.h
 *	  Which partitions a worker reads, and from where.
 */
#ifndef PS_ASSIGNMENT_H
#define PS_ASSIGNMENT_H

#include "ingest/worker.h"

/* Takes the answer of a look-up into the catalog; assigns the partitions if none are. */
extern void ps_assignment_update(PsWorker *worker);

/* The time that start_from names, in milliseconds since 1970; -1 for a word. */
extern int64 ps_assignment_start_ms(PsStream *stream);

#endif							/* PS_ASSIGNMENT_H */
