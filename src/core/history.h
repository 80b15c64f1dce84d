/*
 * history.h
 *	  The history of profiles: which columns and attributes are tracked, and what an
 *	  event changed of them. A row of the history has the old values of what changed.
 *	  So the value at a moment is that of the first row after it, or else the stored one.
 *
 *	  key		names a value in a row of the history: a column, or PS_ATTRIBUTE_KEY and
 *				the name of an attribute
 */
#ifndef PS_HISTORY_H
#define PS_HISTORY_H

#include "core/profile.h"
#include "utils/jsonb.h"

#define PS_ALL_ATTRIBUTES "attributes"
#define PS_ATTRIBUTE_KEY PS_ALL_ATTRIBUTES "."

typedef enum PsTrackedKind
{
	PS_TRACKED_COLUMN,			/* events change it */
	PS_TRACKED_ATTRIBUTE,
	PS_TRACKED_ATTRIBUTES,		/* all of them */
	PS_TRACKED_SCORE			/* a refresh of scores changes it */
} PsTrackedKind;

typedef struct PsTrackedName
{
	const char *name;
	PsTrackedKind kind;
	const PsProfileColumn *column;	/* of PS_TRACKED_COLUMN */
	TimestampTz since;			/* the history is whole from this moment on */
} PsTrackedName;

typedef struct PsTracked
{
	PsTrackedName *names;
	int			nnames;
	int64		retention_us;
	bool		events;			/* any of them is changed by events */
	bool		attributes;		/* any of them is an attribute, or all */
	bool		scores;			/* any of them is a score */
} PsTracked;

/* Finds out what a name stands for; returns why it cannot be tracked, or NULL. */
extern const char *ps_tracked_resolve(const char *name, PsTrackedName *tracked);

/* Adds what follows from the names. */
extern void ps_tracked_finish(PsTracked *tracked);

/* A tracked column, score, or attributes as a whole; NULL: it is not tracked. */
extern const PsTrackedName *ps_tracked_find(const PsTracked *tracked, const char *column);

/* An attribute that is tracked by its own name; NULL: it is not. */
extern const PsTrackedName *ps_tracked_find_attribute(const PsTracked *tracked, const char *name, int len);

/* The tracked columns of a profile before an event. */
typedef struct PsNoted
{
	union
	{
		const void *pointer;
		int64		number;
	}			values[PS_PROFILE_NCOLUMNS];
} PsNoted;

extern void ps_history_note(const PsTracked *tracked, const PsProfile *profile, PsNoted *noted);

/* The old values of what is tracked and has changed since, by key; NULL: nothing has. To be called after each event that was noted and applied. */
extern Jsonb *ps_history_changes(const PsTracked *tracked, PsProfile *profile, const PsNoted *noted);

#endif							/* PS_HISTORY_H */
