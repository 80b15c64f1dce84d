/*
 * poison_messages.h
 *	  Messages whose function ended its worker, because it did not react to being
 *	  cancelled. Each becomes a dead letter when it is read again. All calls need SPI.
 */
#ifndef PS_POISON_MESSAGES_H
#define PS_POISON_MESSAGES_H

#include "nodes/pg_list.h"

typedef struct PsPoisonMessage
{
	int32		topic_no;
	int32		partition;
	int32		epoch;
	int64		offset;
	char	   *error;
} PsPoisonMessage;

extern void ps_poison_message_add(int stream_id, const PsPoisonMessage *poison_message);

/* The messages (PsPoisonMessage) of a stream that are not finished yet; deletes the rows of the others. */
extern List *ps_poison_messages_load(int stream_id);

#endif							/* PS_POISON_MESSAGES_H */
