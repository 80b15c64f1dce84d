/*
 * poison_messages.h
 *	  Messages whose functions did not end when they were cancelled, so that their
 *	  worker ended: each is a dead letter when it is read again. All need SPI.
 */
#ifndef PS_POISON_MESSAGES_H
#define PS_POISON_MESSAGES_H

#include "nodes/pg_list.h"

typedef struct PsCulprit
{
	int32		partition;
	int32		epoch;
	int64		offset;
	char	   *error;
} PsCulprit;

extern void ps_culprit_add(int stream_id, const PsCulprit *culprit);

/* Those of a stream that are not finished yet: PsCulprit; forgets the others. */
extern List *ps_culprits_load(int stream_id);

#endif							/* PS_POISON_MESSAGES_H */
