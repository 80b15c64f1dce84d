/*
 * producer.h
 *	  Writes batches of messages to a Kafka topic, each in a transaction, and never
 *	  blocks: whoever owns it waits for its pipe and lets it work.
 *
 *	  Kafka lets only the producer that came last under a transactional id go on.
 *	  So nothing that a predecessor had on its way, in the socket of a frozen broker
 *	  or in a process that was stopped, comes after what we write.
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
	PS_PRODUCER_TOO_LARGE,		/* likewise, for the size of a message, or of several together */
	PS_PRODUCER_SPENT			/* no batch can be sent any more */
} PsProducerState;

typedef struct PsProducer PsProducer;

/* Makes a producer, in the current memory context, that lives as long as the process; begins to connect. */
extern PsProducer *ps_producer_create(List *options, const char *topic, const char *transactional_id);

/* Hands over a batch, that lives until it is committed, aborted or discarded; one at a time. */
extern void ps_producer_send(PsProducer *producer, const PsMessage *messages, int n);

/* Forgets the batch; unless it is being committed, it will be aborted. */
extern void ps_producer_discard(PsProducer *producer);

extern PsProducerState ps_producer_work(PsProducer *producer);

/* The pipe to wait for. */
extern int	ps_producer_wakeup_fd(const PsProducer *producer);

/* How many messages of the last batch were too large to be sent at all. */
extern int	ps_producer_refused(const PsProducer *producer);

/* Why it failed, or what delays it; NULL: nothing. The hint is NULL when there is none. */
extern const char *ps_producer_error(PsProducer *producer, const char **hint);

#endif							/* PS_PRODUCER_H */
