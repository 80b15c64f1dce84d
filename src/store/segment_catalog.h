/*
 * segment_catalog.h
 *	  The SQL of segments by rule and of segment_changes. Every call needs SPI.
 */
#ifndef PS_SEGMENT_CATALOG_H
#define PS_SEGMENT_CATALOG_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

typedef struct PsSegment
{
	char	   *name;
	char	   *predicate;
	Oid			owner;			/* may be gone */
	bool		confirmed;
} PsSegment;

/* A customer's change: from a segment or NULL, to another one or NULL. */
typedef struct PsSegmentChange
{
	const char *customer_id;
	const char *from;
	const char *to;
} PsSegmentChange;

/* A customer who is not where the predicate says. */
typedef struct PsMove
{
	const char *customer_id;
	bool		enters;			/* or leaves */
	bool		done;
} PsMove;

/* False when there is one of that name. */
extern bool ps_segment_create(const PsSegment *segment);
extern void ps_segment_drop(const char *name);
extern void ps_segment_give(const char *name, Oid owner);

/* One segment, or all by NULL: PsSegment; those that failed last come last. */
extern List *ps_segments_find(const char *name);

/* What the refresh of a segment came to. */
extern void ps_segment_note(const char *name, const char *error);

/* The last of the next so many profiles behind one; NULL: these are the rest. */
extern char *ps_segments_range(const char *after, int limit);

/* Why a text is not one condition on the view profiles; NULL: it is. Raises the parser's errors. */
extern const char *ps_segment_check(const char *predicate);

/*
 * Who satisfies a predicate behind one customer up to another one (NULL: all
 * behind): an array in that order, as seen with the rights of the current user.
 */
extern Datum ps_segment_matches(const char *predicate, const char *after, const char *upto);

/* Who has to enter or leave for the members of a range to be what matches; returns how many. */
extern int	ps_segment_moves(const char *name, const char *after, const char *upto, Datum matches, PsMove ***moves);

/* Moves customers who are still there: for callers who hold their locks. */
extern void ps_segment_move(const char *name, PsMove **moves, int n, TimestampTz at);

extern void ps_segment_changes_add(const PsSegmentChange *changes, int n, const char *kind, TimestampTz at);

/* Removes changes that are older, at most limit; returns how many. */
extern uint64 ps_segment_changes_discard(TimestampTz before, int limit);

#endif							/* PS_SEGMENT_CATALOG_H */
