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

/* A search; ps_id_search_start() fills it, ps_id_search_next() sets start and end. */
typedef struct PsIdSearch
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
} PsIdSearch;

extern void ps_id_search_start(PsIdSearch *mention, const char *text, int len, const char *id, int id_len);

/* Finds the next mention; false when there is none. */
extern bool ps_id_search_next(PsIdSearch *mention);

/* What stands for customerId in bytes that are not valid JSON, NULL when nothing is found that can be an id. */
extern char *ps_find_customer_id(const char *value, int len);

#endif							/* PS_REDACT_H */
