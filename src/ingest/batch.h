/*
 * batch.h
 *	  Applies what was read and what is due.
 */
#ifndef PS_BATCH_H
#define PS_BATCH_H

#include "ingest/worker.h"

/*
 * Applies an intake, deferred messages that can be tried again, and held messages
 * that are due; flush: all that are held.
 */
extern void ps_batch_apply(PsWorker *worker, PsIntake *intake, bool flush);

/*
 * When a message that waits is due, or progress is to be stored. PS_MOMENT_PAST: more
 * was due than one batch took. PS_MOMENT_NEVER: nothing waits.
 */
extern PsMoment ps_batch_next_due(const PsWorker *worker);

/* Whether deferred messages fill the memory, so that nothing more is read. */
extern bool ps_batch_is_blocked(const PsWorker *worker);

#endif							/* PS_BATCH_H */
