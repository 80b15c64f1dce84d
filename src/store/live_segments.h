/*
 * live_segments.h
 *	  The live segments in memory, compiled, and their evaluation on profiles in memory.
 */
#ifndef PS_LIVE_SEGMENTS_H
#define PS_LIVE_SEGMENTS_H

#include "store/live_predicate.h"

typedef struct PsLiveSegment
{
	uint32		id;
	const char *name;
	Oid			owner;
	int64		quiet_us;
	PsLivePredicate *predicate;
	bool		failed;			/* it was blocked in this transaction */
	int			passing_failures;	/* errors of the system that it met soon after each other */
	TimestampTz failed_at;		/* the last of them */
} PsLiveSegment;

typedef struct PsLiveSet
{
	PsLiveSegment *segments;	/* in the order of owners and numbers */
	int			nsegments;
	uint32		last_id;		/* the greatest number */
	bool		reads_samples;
	bool		reads_attributes;
	bool		is_filling;		/* one has not seen all customers yet */
} PsLiveSet;

/*
 * The live segments as the active snapshot sees them; NULL: there are none. Valid until the
 * end of the transaction. A segment that cannot be compiled is blocked. Needs SPI.
 */
extern const PsLiveSet *ps_live_segments(void);

/* The calls of one transaction: what they need lives in the memory context in which it was begun. */
typedef struct PsLiveRun PsLiveRun;

extern PsLiveRun *ps_live_run_begin(const PsLiveSet *set);

/* Whether ps_live_segments() would find any, as far as this process knows without a transaction. */
extern bool ps_live_segments_may_exist(void);

/*
 * Evaluates all segments on profiles: holds has a row of nsegments for each profile, and
 * due_at the moment from which on a result may be another one. A segment whose
 * predicate fails is blocked, and marked as failed.
 */
extern void ps_live_evaluate(PsLiveRun *run, PsStoredProfile **profiles, int n, TimestampTz as_of, bool *holds, TimestampTz *due_at);

/* Checks a predicate with the rights of a role; returns why it is not live, or NULL. Raises its errors. Needs SPI. */
extern const char *ps_live_check(const char *predicate, Oid owner);

#endif							/* PS_LIVE_SEGMENTS_H */
