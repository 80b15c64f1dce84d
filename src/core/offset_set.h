/*
 * offset_set.h
 *	  Which offsets of a partition are finished: all before next, and single ones
 *	  behind it, because earlier messages are still held. A restart reads from next
 *	  again, and leaves out those that are marked as finished.
 */
#ifndef PS_OFFSET_SET_H
#define PS_OFFSET_SET_H

#include "postgres.h"

typedef struct PsOffsetSet
{
	int64		next;			/* first offset that is not finished */
	int64		read;			/* first offset that was not read since the start */
	int64		until;			/* no offset from here on is marked */
	int64		base;			/* offset of bit 0, a multiple of 8 */
	uint8	   *bits;			/* a bit is set when its offset is finished */
	Size		size;			/* bytes of bits; offsets beyond are not finished */
	MemoryContext context;		/* where bits are allocated */
} PsOffsetSet;

/* Restores stored marks. Marks that were encoded for another next offset are ignored. */
extern void ps_offset_set_init(PsOffsetSet *set, int64 next, const bytea *finished, MemoryContext context);

extern bool ps_offset_set_finished(const PsOffsetSet *set, int64 offset);

/* Notes that a message was read; offsets between the one read before and this one hold none. Returns whether it is finished. */
extern bool ps_offset_set_read(PsOffsetSet *set, int64 offset);

/* Notes that all offsets before this one were read: those behind the last message hold none. */
extern void ps_offset_set_read_to(PsOffsetSet *set, int64 offset);

extern void ps_offset_set_mark(PsOffsetSet *set, int64 offset, bool finished);

/* What next may become: the first offset that is not marked as finished. */
extern int64 ps_offset_set_candidate(const PsOffsetSet *set);

/* Moves next to the candidate and drops the marks before it. */
extern void ps_offset_set_advance(PsOffsetSet *set);

/* How many offsets before this one are not finished. */
extern int64 ps_offset_set_unfinished(const PsOffsetSet *set, int64 until);

/* The marks from the candidate on, to be stored; empty when there are none. */
extern bytea *ps_offset_set_encode(const PsOffsetSet *set, int64 from);

#endif							/* PS_OFFSET_SET_H */
