/*
 * locked_rows.h
 *	  Customers whose rows other transactions hold.
 */
#ifndef PS_LOCKED_ROWS_H
#define PS_LOCKED_ROWS_H

#include "ingest/worker.h"

/* How many items have customers whose rows are held. */
extern int	ps_locked_rows_count(const PsApplyItem *items, int n);

/* Looks which deferred customers' rows are free again. */
extern void ps_locked_rows_probe(PsWorker *worker);

#endif							/* PS_LOCKED_ROWS_H */
