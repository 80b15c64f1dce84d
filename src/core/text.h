/*
 * text.h
 *	  Makes valid text of bytes that other programs wrote.
 */
#ifndef PS_TEXT_H
#define PS_TEXT_H

#include "postgres.h"

#define PS_MAX_FOREIGN_TEXT 1000	/* longest error of a library or a server that we keep */

/*
 * Makes text of the first bytes of a message from librdkafka, hiredis, the C
 * library or a server. '?' replaces each invalid byte, control character and byte
 * order mark, and no character is cut in two. So the result may go into a table,
 * an error or the log.
 */
extern char *ps_text_of_bytes(const char *bytes, int len, int max_bytes);

/* The same into a buffer; it allocates nothing, so that another thread may call it. */
extern void ps_text_put(char *out, int size, const char *bytes, int len);

/* The same for a string, cut to PS_MAX_FOREIGN_TEXT bytes; "unknown error" for NULL. */
extern char *ps_text_of_error(const char *error);

#endif							/* PS_TEXT_H */
