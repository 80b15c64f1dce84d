/*
 * event_id_filter.h
 *	  A worker's filter of sealed event ids. It says of nearly every new id that it is
 *	  in no sealed chunk, without reading one. It never says so of an id that is in one.
 */
#ifndef PS_EVENT_ID_FILTER_H
#define PS_EVENT_ID_FILTER_H

#include "core/event_ids.h"

/* Whether the filter has all sealed ids of a customer. */
extern bool ps_id_filter_has(int64 customer_key, const PsSealedIds *sealed);

/* Whether an id of such a customer may be in a sealed chunk. */
extern bool ps_id_filter_test(int64 customer_key, const PsIdHash *id);

/* Makes room for all sealed ids of a customer; false when the filter does not take them. */
extern bool ps_id_filter_begin(int64 customer_key, const PsSealedIds *sealed);
extern void ps_id_filter_add(int64 customer_key, const bytea *hashes);

/* From now on the filter has all sealed ids of the customer. */
extern void ps_id_filter_end(int64 customer_key, const PsSealedIds *sealed);

/* A chunk is added to the sealed ones of its customer. */
extern void ps_id_filter_seal(const PsIdChunk *chunk);

#ifdef PS_FAILPOINTS
/* For tests: this session has a filter too, which is emptied when it has so many ids; how many ids it has. */
extern void ps_id_filter_try(int64 ids);
extern int64 ps_id_filter_ids(void);
#endif

#endif							/* PS_EVENT_ID_FILTER_H */
