/*
 * notify.h
 *	  Notifications of what a transaction changed. PostgreSQL sends them when it commits.
 */
#ifndef PS_NOTIFY_H
#define PS_NOTIFY_H

#include "postgres.h"

#include "core/event.h"
#include "store/segment_catalog.h"
#include "store/stream.h"
#include "store/watch_catalog.h"

/* The payload for one customer's change; last_event NULL: no event made it; event_types are distinct. */
extern char *ps_notify_payload(const char *customer_id, int64 version, TimestampTz updated_at, const PsEvent *last_event,
							   const char **event_types, int ntypes);

/* The payload for a customer's change of segment: {"customerId","from","to","kind","at"}, and {"lastEvent"} if an event caused it. */
extern char *ps_notify_segment_payload(const PsSegmentChange *change, const char *kind, TimestampTz at);

extern void ps_notify(const char *channel, const char *payload);

/* A customer whose scores a refresh changed. */
typedef struct PsScoreChange
{
	const char *customer_id;
	int64		version;
	TimestampTz updated_at;
	const		Bitmapset *changed; /* numbers of the watched names that changed */
} PsScoreChange;

/* Notifies of scores that changed, for the streams that watch them. */
extern void ps_notify_scores(const PsWatches *watches, const PsScoreChange *changes, int n);

/* The channel of a segment. */
extern char *ps_segment_channel(const char *prefix, const char *segment);

/*
 * Whether more than a limit of the server's notification queue is in use. Then
 * notifications are better skipped: once the queue is full, a commit with one fails.
 * Warns when it becomes so.
 */
extern bool ps_notify_queue_full(double limit);

/* Notifies that a customer was forgotten: {"customerId","version","forgotten"}; the version is 0. */
extern void ps_notify_forgotten(const char *channel, const char *customer_id);

/* Whether a transaction failed because its own notifications found no room in the queue. */
extern bool ps_notify_overflowed(const ErrorData *error);

/* Notifies that so many profiles were replaced by rebuilt ones: {"stream","rebuilt"}. */
extern void ps_notify_rebuilt(const char *channel, const char *stream, int64 profiles);

#endif							/* PS_NOTIFY_H */
