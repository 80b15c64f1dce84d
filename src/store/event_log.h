/*
 * event_log.h
 *	  Event ids already applied.
 */
#ifndef PS_EVENT_LOG_H
#define PS_EVENT_LOG_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct PsEventKey
{
	const char *customer_id;
	const char *event_id;
	bool		known;			/* out */
} PsEventKey;

/* Says which keys were seen after retained_from. */
extern void ps_event_log_find(PsEventKey **keys, int n, TimestampTz retained_from);

/*
 * Remembers distinct keys as seen at now; known says which already were, after
 * retained_from. The caller holds the customers' locks.
 */
extern void ps_event_log_add(PsEventKey **keys, int n, TimestampTz now, TimestampTz retained_from);

#endif							/* PS_EVENT_LOG_H */
