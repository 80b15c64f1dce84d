/*
 * event_log.h
 *	  Ids of events that were applied, for de-duplication.
 *
 *	  event key	the key of the index: 32 bits of a hash of the customer id, then 32
 *				of the event id. Rows with the same key are compared by their ids,
 *				so that de-duplication is exact. The customer's lock keeps two
 *				transactions from adding one id twice. The hash is keyed with a
 *				secret of the database: nobody can send many ids with one key.
 */
#ifndef PS_EVENT_LOG_H
#define PS_EVENT_LOG_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct PsEventId
{
	const char *customer_id;
	const char *event_id;
	int			customer_id_len;
	int			event_id_len;
	int64		key;			/* set by these functions */
	bool		known;			/* result: the id was seen before */
} PsEventId;

extern int64 ps_event_key(const char *customer_id, int customer_id_len, const char *event_id, int event_id_len);

/* Sets known of the ids that were seen after retained_from. */
extern void ps_event_log_find(PsEventId **ids, int n, TimestampTz retained_from);

/*
 * Stores distinct ids as seen at now, and sorts the array by key. Sets known of
 * those that were seen after retained_from before. The caller holds the customers'
 * locks.
 */
extern void ps_event_log_add(PsEventId **ids, int n, TimestampTz now, TimestampTz retained_from);

#endif							/* PS_EVENT_LOG_H */
