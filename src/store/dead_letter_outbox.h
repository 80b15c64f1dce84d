/*
 * dead_letter_outbox.h
 *	  The ids of dead letters that are not delivered to a topic yet. The transaction
 *	  that adds a dead letter adds its id. Every call needs an SPI connection.
 */
#ifndef PS_DEAD_LETTER_OUTBOX_H
#define PS_DEAD_LETTER_OUTBOX_H

#include "message.h"


/* Adds new dead letters, an array of ids, if the stream has a topic for them. */
extern void ps_dead_letter_outbox_add(int stream_id, Datum ids);

/* Adds all dead letters of a stream; returns how many. */
extern int64 ps_dead_letter_outbox_resync(int stream_id);

/*
 * Reads the oldest undelivered dead letters, at most limit and about so many bytes,
 * into memory of the caller. Each is a message with headers that tell its errors.
 * Returns how many there are, an array of their ids, and when they died. Skips dead letters that
 * were removed, and removes their ids when no other one is left.
 */
extern int	ps_dead_letter_outbox_read(int stream_id, int limit, int64 bytes, PsMessage **messages, Datum *ids, TimestampTz **dead_at);

/* Removes ids of dead letters that were delivered. */
extern void ps_dead_letter_outbox_delivered(int stream_id, Datum ids);

#endif							/* PS_DEAD_LETTER_OUTBOX_H */
