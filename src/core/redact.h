/*
 * redact.h
 *	  Finds a customer's id in bytes: in text, in JSON however its strings escape
 *	  it, and in bytes that are not valid text.
 *
 *	  mention	an occurrence of the id. In text it must be a whole word: neither the
 *				id before nor the text behind goes on with a letter or digit of
 *				ASCII, so that c10 does not mention c1
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
	bool		in_strings;		/* look only into strings of JSON */
	bool		whole;			/* the bytes are text, so that only whole words count */
	bool		quoted;			/* the position is inside of a string */
	bool		escaped;		/* the position follows a backslash */
	int			at;				/* position of the search */
	int			start;			/* where the last mention begins and ends */
	int			end;
} PsIdSearch;

extern void ps_id_search_start(PsIdSearch *mention, const char *text, int len, const char *id, int id_len);

/* Finds the next mention; false when there is none. */
extern bool ps_id_search_next(PsIdSearch *mention);

/* Finds the value of a member customerId in bytes that need not be valid JSON; NULL when none is found that can be an id. */
extern char *ps_find_customer_id(const char *value, int len);

#endif							/* PS_REDACT_H */
