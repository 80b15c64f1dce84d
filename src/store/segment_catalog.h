/*
 * segment_catalog.h
 *	  The SQL of segments by rule and of segment_changes. Every call needs SPI.
 */
#ifndef PS_SEGMENT_CATALOG_H
#define PS_SEGMENT_CATALOG_H

#include "postgres.h"

#include "core/event.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

typedef struct PsSegment
{
	char	   *name;
	char	   *predicate;
	Oid			owner;			/* the role may not exist any more */
	bool		confirmed;
	bool		is_live;		/* evaluated when events are applied */
	bool		is_blocked;		/* it was live, until its predicate failed */
	Interval   *quiet_period;
} PsSegment;

/* The change of a customer from one segment to another one; each may be NULL. */
typedef struct PsSegmentChange
{
	const char *customer_id;
	const char *from;
	const char *to;
	const PsEvent *event;		/* that was applied last before it; NULL: no event caused the change */
} PsSegmentChange;

/* A customer who has to enter or leave a segment. */
typedef struct PsMove
{
	const char *customer_id;
	bool		enters;			/* false: the customer leaves */
	bool		done;
} PsMove;

/* Adds a segment; false when the name exists. */
extern bool ps_segment_create(const PsSegment *segment);
extern void ps_segment_drop(const char *name);

/* Changes all but the name. Its members are looked at anew. */
extern void ps_segment_alter(const PsSegment *segment);

/* Tells every process to load the live segments again, once the transaction commits. */
extern void ps_segments_tell(void);

/* Ends the live evaluation of a segment whose predicate failed, until a refresh succeeds. */
extern void ps_segment_block(const char *name, const char *error);

/* Lets the live evaluation of a segment begin again: all customers are looked at anew. NULL: of all live segments that are not blocked. */
extern void ps_segment_renew(const char *name);

/* One segment (PsSegment), or all of them (NULL). Segments whose last refresh failed come last. */
extern List *ps_segments_find(const char *name);

/* Stores the result of a segment's refresh; error NULL: it succeeded. */
extern void ps_segment_note(const char *name, const char *error);

/* The last of the next limit customers; NULL: fewer are left. */
extern char *ps_segments_range(const char *after, int limit);

/* Checks that a text is one condition on the view profiles; returns what is wrong with it, or NULL. Raises errors of the parser. */
extern const char *ps_segment_check(const char *predicate);

/*
 * The customers that satisfy a predicate, behind one id up to another one (NULL: to
 * the end), as a sorted array. Evaluated with the rights of the current user.
 */
extern Datum ps_segment_matches(const char *predicate, const char *after, const char *upto);

/* Evaluates a predicate for nobody, with the rights of the current user; raises when that cannot be. */
extern void ps_segment_try(const char *predicate);

/* Computes who has to enter or leave so that the members of a range are the matches; returns how many. */
extern int	ps_segment_moves(const char *name, const char *after, const char *upto, Datum matches, PsMove ***moves);

/* Moves those customers that still exist. The caller holds their locks. */
extern void ps_segment_move(const char *name, PsMove **moves, int n, TimestampTz at);

/* The group of this node, by which a change is numbered, see PS_CHANGE_ID; -1: profiles are not distributed. */
extern Datum ps_segment_changes_group(void);

extern void ps_segment_changes_add(const PsSegmentChange *changes, int n, const char *kind, TimestampTz at);

/* Removes at most limit changes from before a moment; returns how many. */
extern uint64 ps_segment_changes_discard(TimestampTz before, int limit);

#endif							/* PS_SEGMENT_CATALOG_H */
