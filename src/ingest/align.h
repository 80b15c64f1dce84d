/*
 * align.h
 *	  Reads the topics of a stream side by side.
 */
#ifndef PS_ALIGN_H
#define PS_ALIGN_H

#include "ingest/worker.h"

/* Begins with the partitions that are assigned now, which are read from these offsets. */
extern void ps_align_begin(PsWorker *worker, const PsPosition *positions);

/* Forgets what is kept: it will be read again. */
extern void ps_align_reset(PsWorker *worker);

/*
 * Replaces what was read by what may be applied now: at most a batch. What must wait is
 * kept. True: more may be applied at once. For a stream of one topic it does nothing.
 */
extern bool ps_align(PsWorker *worker, PsIntake *intake);

/* How long the loop may wait, because messages wait for other streams that are rebuilt. */
extern long ps_align_wait_ms(const PsWorker *worker);

#endif							/* PS_ALIGN_H */
