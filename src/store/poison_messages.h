/*
 * poison_messages.h
 *	  Messages whose functions did not end when they were cancelled, so that their
 *	  worker ended: each is a dead letter when it is read again. All need SPI.
 */
#ifndef PS_POISON_MESSAGES_H
#define PS_POISON_MESSAGES_H

#include "nodes/pg_list.h"

typedef struct PsPoisonMessage
{
	int32		partition;
	int32		epoch;
	int64		offset;
	char	   *error;
} PsPoisonMessage;

extern void ps_poison_message_add(int stream_id, const PsPoisonMessage *poison_message);

/* Those of a stream that are not finished yet: PsPoisonMessage; forgets the others. */
extern List *ps_poison_messages_load(int stream_id);

#endif							/* PS_POISON_MESSAGES_H */
