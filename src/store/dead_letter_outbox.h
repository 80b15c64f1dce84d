/*
 * dead_letter_outbox.h
 *	  Which dead letters are not delivered to a topic yet: their ids, added in the
 *	  transaction that adds the letters. Every call needs an SPI connection.
 */
#ifndef PS_DEAD_LETTER_OUTBOX_H
#define PS_DEAD_LETTER_OUTBOX_H

#include "message.h"


/* Notes new letters, an array of ids, if the stream has a topic for them. */
extern void ps_dead_letter_outbox_add(int stream_id, Datum ids);

/* Notes all letters of a stream; returns how many. */
extern int64 ps_dead_letter_outbox_resync(int stream_id);

/*
 * Reads the oldest that are noted, at most limit and about as many bytes, as
 * messages with headers that say what was wrong, into memory of the caller;
 * returns how many, and an array of their ids. Passes over letters that are gone,
 * and forgets them when no other is left.
 */
extern int	ps_dead_letter_outbox_read(int stream_id, int limit, int64 bytes, PsMessage **messages, Datum *ids);

/* Forgets these. */
extern void ps_dead_letter_outbox_delivered(int stream_id, Datum ids);

#endif							/* PS_DEAD_LETTER_OUTBOX_H */
