/*
 * redact.h
 *	  Where bytes name a customer: as an id stands in text, in JSON with whatever
 *	  escapes, or in bytes that are no text.
 *
 *	  mention	the id as a whole: in text no letter or digit of ASCII follows on a
 *				letter or digit of the id; c1 is not mentioned by c10. In bytes that
 *				are no text each occurrence is one
 */
#ifndef PS_REDACT_H
#define PS_REDACT_H

#include "postgres.h"

/* A search; ps_mention_start() fills it, ps_mention_next() sets start and end. */
typedef struct PsMention
{
	const char *text;
	int			len;
	const char *id;
	int			id_len;
	bool		in_strings;		/* of JSON; else anywhere */
	bool		whole;			/* it is text */
	bool		quoted;			/* where the search is */
	bool		escaped;		/* likewise, behind a backslash */
	int			at;
	int			start;			/* of the mention */
	int			end;
} PsMention;

extern void ps_mention_start(PsMention *mention, const char *text, int len, const char *id, int id_len);

/* Finds the next mention; false when there is none. */
extern bool ps_mention_next(PsMention *mention);

/* What stands for customerId in bytes that are not valid JSON, NULL when nothing is found that can be an id. */
extern char *ps_mention_customer(const char *value, int len);

#endif							/* PS_REDACT_H */
