/*
 * offset_set.h
 *	  How far a partition is finished: every offset before the next one, and
 *	  single ones after it, where earlier events are still held.
 */
#ifndef PS_OFFSET_SET_H
#define PS_OFFSET_SET_H

#include "postgres.h"

typedef struct PsOffsetSet
{
	int64		next;			/* the first that is not finished */
	int64		read;			/* the first that was not read since the start */
	int64		until;			/* no mark is there or beyond */
	int64		base;			/* that bit 0 stands for, a multiple of 8 */
	uint8	   *bits;			/* set: finished */
	Size		size;			/* in bytes; what lies beyond is not finished */
	MemoryContext context;		/* of bits */
} PsOffsetSet;

/* Begins with what ps_offset_set_encode() gave for this next offset; what it gave for another one is not taken. */
extern void ps_offset_set_init(PsOffsetSet *set, int64 next, const bytea *finished, MemoryContext context);

extern bool ps_offset_set_finished(const PsOffsetSet *set, int64 offset);

/* Notes that a message was read, and that there is none between the one before and it; whether it is finished. */
extern bool ps_offset_set_read(PsOffsetSet *set, int64 offset);

/* Notes that there is no message from the last one read up to an offset. */
extern void ps_offset_set_read_to(PsOffsetSet *set, int64 offset);

extern void ps_offset_set_mark(PsOffsetSet *set, int64 offset, bool finished);

/* The first offset that is not finished, by the marks. */
extern int64 ps_offset_set_candidate(const PsOffsetSet *set);

/* Moves next there, and forgets what is before. */
extern void ps_offset_set_advance(PsOffsetSet *set);

/* How many offsets before that one are not finished. */
extern int64 ps_offset_set_unfinished(const PsOffsetSet *set, int64 until);

/* The marks from an offset on, which is the candidate, for storing; an empty one when there are none. */
extern bytea *ps_offset_set_encode(const PsOffsetSet *set, int64 from);

#endif							/* PS_OFFSET_SET_H */
