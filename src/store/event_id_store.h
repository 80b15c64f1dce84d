/*
 * event_id_store.h
 *	  Sealed chunks of event ids: rows of event_id_chunks.
 */
#ifndef PS_EVENT_ID_STORE_H
#define PS_EVENT_ID_STORE_H

#include "core/event_ids.h"

/* The question whether the sealed chunks of a customer have an id. */
typedef struct PsIdQuery
{
	const char *customer_id;
	int64		customer_key;	/* ps_lock_key() */
	const PsSealedIds *sealed;
	const PsIdHash *hash;
	bool		is_open;		/* the filter does not answer it */
	bool		found;			/* the answer */
} PsIdQuery;

/*
 * Answers questions, of which those of one customer stand together: was the id
 * applied after a moment? The caller holds the customers' locks.
 */
extern void ps_event_ids_find_sealed(PsIdQuery *queries, int n, TimestampTz after);

/* Adds a list of sealed chunks, and removes the oldest ones of their customers when they are older than any retention. */
extern void ps_id_chunks_add(PsIdChunk *first);

#endif							/* PS_EVENT_ID_STORE_H */
