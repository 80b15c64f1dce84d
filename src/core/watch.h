/*
 * watch.h
 *	  Tells which watched columns, scores and attributes a transaction changed. A stream
 *	  watches names; the names of all streams have numbers, from 0.
 */
#ifndef PS_WATCH_H
#define PS_WATCH_H

#include "core/profile.h"
#include "nodes/bitmapset.h"
#include "utils/jsonb.h"

#define PS_MAX_WATCHED 64		/* names of a stream */

typedef struct PsWatchedName
{
	const char *name;
	const PsProfileColumn *column;	/* NULL: a score, or an attribute */
	bool		is_score;
} PsWatchedName;

typedef struct PsWatchedNames
{
	PsWatchedName *names;
	int			n;
} PsWatchedNames;

/* Why a name cannot be watched, as the end of a sentence; NULL: it can. */
extern const char *ps_watch_refuses(const char *name);

/* The number of a name, which is added unless it is there. */
extern int	ps_watch_add(PsWatchedNames *names, const char *name);

/* The number of a name; -1: nobody watches it. */
extern int	ps_watch_find(const PsWatchedNames *names, const char *name);

/* The watched values of a profile. They share its memory, which later changes of the profile replace and do not overwrite. */
extern JsonbValue *ps_watch_values(const PsWatchedNames *names, PsProfile *profile);

/* The numbers of the names whose values differ from those before. */
extern Bitmapset * ps_watch_changes(const PsWatchedNames *names, const JsonbValue *before, PsProfile *profile);

#endif							/* PS_WATCH_H */
