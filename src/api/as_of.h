/*
 * as_of.h
 *	  What members of a document were at a moment: which of them the history has, and
 *	  the attributes of then.
 */
#ifndef PS_AS_OF_H
#define PS_AS_OF_H

#include "core/history.h"
#include "fmgr.h"

typedef struct PsAsOf
{
	bool		is_named;		/* the caller named the moment; otherwise it is now */
	TimestampTz at;
	const PsTracked *tracked;	/* of a moment that was named */
	TimestampTz kept_from;		/* older changes are in the history no more */
} PsAsOf;

/* The moment of an argument; null: now. */
extern PsAsOf ps_as_of_argument(FunctionCallInfo fcinfo, int argument);

/* The moment that a caller names. */
extern PsAsOf ps_as_of_moment(TimestampTz at);

/* Whether the history of a name reaches back to the moment; false of NULL. */
extern bool ps_as_of_reaches(const PsAsOf *as_of, const PsTrackedName *name);

/* Whether the history tells a column, a score, or all attributes at the moment. */
extern bool ps_as_of_has(const PsAsOf *as_of, const char *column);

/* The value of a key at the moment, of old values by key; NULL: it is as it is stored. */
extern JsonbValue *ps_as_of_old(const Jsonb *old, const char *key, int len);

/* Names of members. */
typedef struct PsNames
{
	const char **names;
	int			n;
	int			capacity;
} PsNames;

extern void ps_names_add(PsNames *names, const char *name);

/* The names, sorted, as an array of jsonb. */
extern Jsonb *ps_names_jsonb(PsNames *names);

/*
 * The attributes at the moment, of those that are stored and the old values of a customer
 * who has changed since. Adds the names of those that the history does not tell.
 */
extern Jsonb *ps_as_of_attributes(const PsAsOf *as_of, Jsonb *stored, const Jsonb *old, PsNames *current);

#endif							/* PS_AS_OF_H */
