/*
 * message_copy.h
 *	  Copies of messages, for those who keep them longer than a batch.
 */
#ifndef PS_MESSAGE_COPY_H
#define PS_MESSAGE_COPY_H

#include "settings.h"

/* Room that everything takes that a message points to. */
extern Size ps_message_space(const PsMessage *message);

/* Copies a message; what it points to goes to space, which is aligned and has that room. */
extern void ps_message_copy(PsMessage *copy, char *space, const PsMessage *message);

#endif							/* PS_MESSAGE_COPY_H */
