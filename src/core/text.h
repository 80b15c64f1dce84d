/*
 * text.h
 *	  Text of bytes that others wrote.
 */
#ifndef PS_TEXT_H
#define PS_TEXT_H

#include "postgres.h"

#define PS_MAX_FOREIGN_TEXT 1000	/* bytes of an error that a library or a server gave */

/*
 * Valid text of the first bytes of what librdkafka, hiredis, the C library or a
 * server said: '?' stands for each byte that is none, and for each control
 * character and byte order mark; nothing is cut within a character. Any of it
 * may go into a table, an error or the log.
 */
extern char *ps_text_of_bytes(const char *bytes, int len, int max_bytes);

/* The same into a buffer, also of a side thread. */
extern void ps_text_put(char *out, int size, const char *bytes, int len);

/* The same of a string, at most PS_MAX_FOREIGN_TEXT bytes; "unknown error" of NULL. */
extern char *ps_text_of_error(const char *error);

#endif							/* PS_TEXT_H */
