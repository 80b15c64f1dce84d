/*
 * segment_state.h
 *	  What the row of a profile knows of live segments, packed: of which ones the customer
 *	  is a member, and when the next one can change without an event.
 *
 *	  known		the greatest number of a segment for which the customer was looked at.
 *				Numbers only rise, so of every smaller one the members tell the truth
 */
#ifndef PS_SEGMENT_STATE_H
#define PS_SEGMENT_STATE_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct PsSegmentState
{
	TimestampTz due_at;			/* DT_NOEND: none can change without an event */
	uint32		known;
	uint32	   *members;		/* numbers of segments, ascending */
	int			nmembers;
} PsSegmentState;

/* Unpacks a state; NULL is the state of a customer at whom nobody has looked. Raises when the bytes are damaged. */
extern void ps_segment_state_read(const bytea *packed, PsSegmentState *state);

/* Packs a state; returns NULL for one that says nothing. */
extern bytea *ps_segment_state_write(const PsSegmentState *state);

/* Whether the customer is a member of a segment. */
extern bool ps_segment_state_has(const PsSegmentState *state, uint32 segment);

#endif							/* PS_SEGMENT_STATE_H */
