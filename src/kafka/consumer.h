/*
 * consumer.h
 *	  A Kafka consumer of topics. The worker assigns its partitions, so that Kafka's
 *	  group protocol is not used. No call blocks.
 */
#ifndef PS_CONSUMER_H
#define PS_CONSUMER_H

#include "clock.h"
#include "message.h"
#include "nodes/pg_list.h"

typedef struct PsConsumer PsConsumer;

/* A message that librdkafka cannot read, or the first of such a batch: because of codec, checksum or size. */
typedef struct PsUnreadable
{
	int32		topic_no;
	int32		partition;
	int64		offset;
	const char *reason;
} PsUnreadable;

/* What one call of ps_consumer_drain() found; it lives in the memory context that was current. */
typedef struct PsIntake
{
	PsMessage  *messages;
	int			n;
	int			capacity;
	int64		bytes;
	List	   *ends;			/* PsPosition: partitions that are read to their end */
	List	   *lost;			/* PsPosition: offsets or partitions that the topic no longer has */
	char	   *error;			/* newest error of the client, NULL: none */
	List	   *refused;		/* PsUnreadable */
	List	   *suspects;		/* int: partitions, of any topic, that may belong to a new one from here on; -1: all */
	bool		exhausted;		/* nothing more was queued */
} PsIntake;

extern PsConsumer *ps_consumer_create(List *options, const char *group_id);

/* Says which topics there are, before partitions of them are assigned. They live as long as the process. */
extern void ps_consumer_set_topics(PsConsumer *consumer, const PsTopic *topics, int n);
extern void *ps_consumer_handle(PsConsumer *consumer);

/* A descriptor that becomes readable when the queue gets its first event. */
extern int	ps_consumer_wakeup_fd(const PsConsumer *consumer);

extern void ps_consumer_assign(PsConsumer *consumer, const PsPosition *positions, int n);

/* Moves messages from the queue into the intake, until a limit or the deadline is reached. */
extern void ps_consumer_drain(PsConsumer *consumer, PsIntake *intake, int max_messages, int64 max_bytes,
							  PsMoment deadline);

/* End offset that the broker last told, -1: none yet. */
extern int64 ps_consumer_end_offset(PsConsumer *consumer, int32 topic_no, int32 partition);

/* Commits the offsets of the group without waiting. Only Kafka's tools read them. */
extern void ps_consumer_report(PsConsumer *consumer, const PsPosition *positions, int n);

/* Closes the client, within a second. The process must end then. */
extern void ps_consumer_close(PsConsumer *consumer);

#endif							/* PS_CONSUMER_H */
