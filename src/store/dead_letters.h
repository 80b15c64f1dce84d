/*
 * dead_letters.h
 *	  Messages that could not be applied.
 */
#ifndef PS_DEAD_LETTERS_H
#define PS_DEAD_LETTERS_H

#include "core/event.h"
#include "message.h"

typedef struct PsDeadLetter
{
	const PsMessage *message;
	const PsEvent *event;		/* NULL: the message could not be decoded */
	const PsReject *reject;
} PsDeadLetter;

typedef struct PsDeadLetterSource
{
	int			stream_id;		/* 0: not from a stream */
	const char *stream;
} PsDeadLetterSource;

/* Adds a row for each dead letter. A message that has a row already, from an earlier attempt, keeps it. */
extern void ps_dead_letters_add(const PsDeadLetter *letters, int n,
								const PsDeadLetterSource *source, TimestampTz now);

/* The headers of a message as jsonb, as dead_letters.headers has them. */
extern Datum ps_headers_jsonb(const PsMessage *message);

#endif							/* PS_DEAD_LETTERS_H */
