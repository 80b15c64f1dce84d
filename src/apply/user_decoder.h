/*
 * user_decoder.h
 *	  Calls the decoder of a stream: a function of a user that makes JSON of the bytes
 *	  of a message. What it writes is refused, and all else that it does is undone.
 */
#ifndef PS_USER_DECODER_H
#define PS_USER_DECODER_H

#include "message.h"
#include "store/function.h"

#define PS_DECODER_ERROR "Processing error: "	/* what refused begins with */
#define PS_MAX_DECODED 1000		/* events of a message */

/* What a decoder made of a message. Only one of values, refused and is_ignored is set; none: it was not called. */
typedef struct PsDecoded
{
	const char **values;		/* JSON */
	int			nvalues;
	const char *refused;		/* why it made nothing */
	char		sqlstate[6];	/* of its error; "" where it raised none */
	bool		is_ignored;
} PsDecoded;

/*
 * Calls a decoder for messages in the caller's transaction. Returns how many it has
 * done: all, or those up to one whose call was ended for its time. Raises errors of
 * the system.
 */
extern int	ps_decoder_run(PsFunction *decoder, const PsMessage *const *messages, PsDecoded *const *results, int n);

/* Gives a message the value of that number, or what else the decoder said of it. */
extern void ps_decoded_take(PsMessage *message, const PsDecoded *decoded, int number);

/* The message for which a decoder runs at this moment, NULL: none runs. */
extern const PsMessage *ps_decoder_calling(void);

#endif							/* PS_USER_DECODER_H */
