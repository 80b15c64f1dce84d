/*
 * event_log.h
 *	  Event ids already applied.
 *
 *	  event key	32 bits of hash of the customer id, then 32 of the event id: what
 *				the index holds. Ids of one key are told apart by the ids
 *				themselves, so that de-duplication is exact; that an id is there
 *				once is due to the customer's lock. The hash has a key of the
 *				database's own, so that nobody can send ids that share one.
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
	int64		key;			/* filled here */
	bool		known;			/* out */
} PsEventId;

extern int64 ps_event_key(const char *customer_id, int customer_id_len, const char *event_id, int event_id_len);

/* Says which ids were seen after retained_from. */
extern void ps_event_log_find(PsEventId **ids, int n, TimestampTz retained_from);

/*
 * Remembers distinct ids as seen at now, and orders the array by key; known says
 * which already were, after retained_from. The caller holds the customers' locks.
 */
extern void ps_event_log_add(PsEventId **ids, int n, TimestampTz now, TimestampTz retained_from);

#endif							/* PS_EVENT_LOG_H */
