/*
 * notify.h
 *	  NOTIFY of what a transaction changed, sent when it commits.
 */
#ifndef PS_NOTIFY_H
#define PS_NOTIFY_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "store/segment_catalog.h"

#define PS_MAX_SEGMENT_PREFIX (NAMEDATALEN - 1 - 16)	/* bytes; a hash needs the rest */

/* What is told of one customer's change; event_types are distinct. */
extern char *ps_notify_payload(const char *customer_id, int64 version, TimestampTz updated_at,
							   const char **event_types, int ntypes);

/* What is told of a customer's change of segment: {"customerId","from","to","kind","at"}. */
extern char *ps_notify_segment_payload(const PsSegmentChange *change, const char *kind, TimestampTz at);

extern void ps_notify(const char *channel, const char *payload);

/* The channel of a segment. */
extern char *ps_segment_channel(const char *prefix, const char *segment);

/* One commit's change. */
extern void ps_notify_batch(const char *channel, const char *stream, int customers, int64 events);

/*
 * Whether so much of the server's queue waits for listeners that notifications had
 * better be skipped: a commit with one fails once it is full. Warns when it begins.
 */
extern bool ps_notify_queue_full(double limit);

/* Announces that nothing is left of a customer: {"customerId","version","forgotten"}; the version is 0. */
extern void ps_notify_forgotten(const char *channel, const char *customer_id);

/* Whether a transaction failed because its own notifications found no room in the queue. */
extern bool ps_notify_overflowed(const ErrorData *error);

/* Announces that so many profiles were replaced by rebuilt ones: {"stream","rebuilt"}. */
extern void ps_notify_rebuilt(const char *channel, const char *stream, int64 profiles);

#endif							/* PS_NOTIFY_H */
