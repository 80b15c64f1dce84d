/*
 * consumer.h
 *	  A Kafka consumer of one topic whose partitions we assign ourselves. It owns
 *	  the librdkafka handle; no call blocks, none raises from librdkafka's frames.
 */
#ifndef PS_CONSUMER_H
#define PS_CONSUMER_H

#include "clock.h"
#include "message.h"
#include "nodes/pg_list.h"

typedef struct PsConsumer PsConsumer;

typedef struct PsPosition
{
	int32		partition;
	int64		offset;			/* next to be read */
} PsPosition;

/* A message, or the first of a batch of them, that librdkafka cannot read: its codec, its checksum, its size. */
typedef struct PsUnreadable
{
	int32		partition;
	int64		offset;
	const char *reason;
} PsUnreadable;

/* What one drain found; lives in the context that was current. */
typedef struct PsIntake
{
	PsMessage  *messages;
	int			n;
	int			capacity;
	int64		bytes;
	List	   *ends;			/* PsPosition: partitions read to their end */
	List	   *lost;			/* PsPosition: partitions whose offset the topic no longer has, or that have no topic */
	char	   *error;			/* newest error of the client, NULL if none */
	List	   *refused;		/* PsUnreadable */
	List	   *suspects;		/* int: partitions that may be of another topic from here on; -1: all */
	bool		exhausted;		/* nothing more was queued */
} PsIntake;

extern PsConsumer *ps_consumer_create(List *options, const char *topic, const char *group_id);
extern void *ps_consumer_handle(PsConsumer *consumer);

/* Becomes readable when the queue stops being empty. */
extern int	ps_consumer_wakeup_fd(const PsConsumer *consumer);

extern void ps_consumer_assign(PsConsumer *consumer, const PsPosition *positions, int n);

/* Moves what is queued into the intake, up to so many messages and bytes, not past the deadline. */
extern void ps_consumer_drain(PsConsumer *consumer, PsIntake *intake, int max_messages, int64 max_bytes,
							  PsMoment deadline);

/* End of the partition as last heard from the broker, -1 if never. */
extern int64 ps_consumer_end_offset(PsConsumer *consumer, int32 partition);

/* Commits the group's offset, as a report for Kafka's tools; does not wait. */
extern void ps_consumer_report(PsConsumer *consumer, const PsPosition *positions, int n);

/* Closes within a second, or leaves the handle to the exit of the process. */
extern void ps_consumer_close(PsConsumer *consumer);

#endif							/* PS_CONSUMER_H */
