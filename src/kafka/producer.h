/*
 * producer.h
 *	  Writes batches of messages to a Kafka topic, each in a transaction. It never blocks:
 *	  its owner waits for its pipe and then calls ps_producer_work().
 *
 *	  Kafka stops all but the newest producer of a transactional id. So messages of an
 *	  older relay, in a stopped process or in the socket of a frozen broker, never come
 *	  after ours.
 */
#ifndef PS_PRODUCER_H
#define PS_PRODUCER_H

#include "message.h"
#include "nodes/pg_list.h"

typedef enum PsProducerState
{
	PS_PRODUCER_IDLE,			/* the batch is committed */
	PS_PRODUCER_BUSY,
	PS_PRODUCER_FAILED,			/* the batch is aborted */
	PS_PRODUCER_TOO_LARGE,		/* the batch is aborted, because it or a message of it is too large */
	PS_PRODUCER_SPENT			/* this producer can send no more batches */
} PsProducerState;

typedef struct PsProducer PsProducer;

/* Makes a producer that lives as long as the process, in the current memory context. Begins to connect. */
extern PsProducer *ps_producer_create(List *options, const char *topic, const char *transactional_id);

/* Ends a producer that has nothing to send, without waiting for that. */
extern void ps_producer_end(PsProducer *producer);

/* Hands over a batch, one at a time. It must live until it is committed, aborted or discarded. */
extern void ps_producer_send(PsProducer *producer, const PsMessage *messages, int n);

/* Gives up the batch. It is aborted, unless its commit is under way. */
extern void ps_producer_discard(PsProducer *producer);

extern PsProducerState ps_producer_work(PsProducer *producer);

/* The descriptor to wait for. */
extern int	ps_producer_wakeup_fd(const PsProducer *producer);

/* How many messages of the last batch were too large, and were left out. */
extern int	ps_producer_refused(const PsProducer *producer);

/* Why a batch failed, or what delays it; NULL: nothing. The hint is NULL when there is none. */
extern const char *ps_producer_error(PsProducer *producer, const char **hint);

#endif							/* PS_PRODUCER_H */
