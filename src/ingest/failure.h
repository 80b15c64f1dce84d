/*
 * failure.h
 *	  What a worker cannot do at the moment.
 */
#ifndef PS_FAILURE_H
#define PS_FAILURE_H

#include "ingest/worker.h"

/* What caused an error. */
typedef enum PsFault
{
	PS_FAULT_RANGE,				/* the messages, or whatever else the worker did */
	PS_FAULT_SIZE,				/* the transaction was too large, and is smaller already */
	PS_FAULT_LOCK				/* another transaction holds a lock */
} PsFault;

/* Notes which messages could not be applied. */
extern void ps_failure_note(PsWorker *worker, const PsApplyItem *items, int n);

/* Forgets the messages that were noted since the last error. */
extern void ps_failure_forget_range(PsWorker *worker);

/* Clears the suspicion against partitions of which messages were applied. */
extern void ps_failure_applied(PsWorker *worker, const PsApplyItem *items, int n);

/*
 * After an error: what the worker was doing counts as failing. Returns how long the
 * worker waits; *next_attempt_ms is how long what has failed waits.
 */
extern int64 ps_failure_begin(PsWorker *worker, PsFault fault, int64 *next_attempt_ms);

/* These PS_DOING_... work again. */
extern void ps_failure_over(PsWorker *worker, int doing);

/* Each turn: suspects whose time has come are read again. */
extern void ps_failure_turn(PsWorker *worker);

/* Whether partitions of that number are not read yet, because one failed: a customer has events in all of them. */
extern bool ps_failure_waits(const PsWorker *worker, int32 partition);

/* How many of the first items a transaction may take. */
extern int	ps_failure_prefix(const PsWorker *worker, const PsApplyItem *items, int n);

#endif							/* PS_FAILURE_H */
