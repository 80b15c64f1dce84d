/*
 * transaction.h
 *	  Begins a worker's transactions.
 */
#ifndef PS_TRANSACTION_H
#define PS_TRANSACTION_H

#include "ingest/worker.h"

/* Whether the worker is to run, by its stream as that was just read. */
extern bool ps_worker_is_wanted(const PsWorker *worker, const PsStream *stream);

/* Whether the stream, as it was just read, has the topics and partitions that the worker reads. */
extern bool ps_worker_reads_same(const PsWorker *worker, const PsStream *stream);

/*
 * Begins a transaction that changes something. It waits while a session pauses or
 * alters the stream. It raises if that session has stopped the worker, or has taken a
 * topic or partition from it.
 */
extern void ps_worker_begin(PsWorker *worker);

/* Raises when a session has stopped the worker, or changed what it reads, since it read its stream. */
extern void ps_worker_check_wanted(PsWorker *worker);

#endif							/* PS_TRANSACTION_H */
