/*
 * decoding.h
 *	  Lets the decoder of a stream, a function of a user, make events of messages.
 */
#ifndef PS_DECODING_H
#define PS_DECODING_H

#include "ingest/worker.h"

/*
 * Calls the decoder, if the stream has one, for items that are not decoded. Replaces
 * the array by one with an item for each event that it made, and returns how many
 * these are. Each message keeps one item at least.
 */
extern int	ps_decoding_run(PsWorker *worker, PsApplyItem **items, int n, const PsApplySettings *settings);

#endif							/* PS_DECODING_H */
