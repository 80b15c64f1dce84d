/*
 * poison.h
 *	  Messages that end their worker.
 */
#ifndef PS_POISON_H
#define PS_POISON_H

#include "ingest/worker.h"

/* Reads which messages ended earlier workers; at its exit the process notes the one that ends it. */
extern void ps_poison_begin(PsWorker *worker);

/* Rejects the poison messages among the items. */
extern void ps_poison_reject(const PsWorker *worker, PsApplyItem *items, int n);

/* Why a message is a poison message, NULL: it is none. */
extern const char *ps_poison_reason(const PsWorker *worker, const PsMessage *message);

#endif							/* PS_POISON_H */
