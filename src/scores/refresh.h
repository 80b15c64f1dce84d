/*
 * refresh.h
 *	  A refresh of scores or of segments: batches of profiles, each in a transaction. It
 *	  runs in a procedure, or in a background worker, the scorer.
 *
 *	  All calls need a non-atomic SPI connection.
 */
#ifndef PS_REFRESH_H
#define PS_REFRESH_H

#include "postgres.h"

#include "apply/notify.h"
#include "clock.h"
#include "process/bgworker.h"
#include "store/score_catalog.h"
#include "store/segment_catalog.h"

typedef struct PsRefresh
{
	int			batch;			/* profiles in a transaction at most */
	int			at_once;		/* and now: fewer while batches take long, because each holds a snapshot */
	TimestampTz as_of;
	TimestampTz before;			/* scores of a pass that began later are fresh */
	int64		shard;			/* number of the shard that is refreshed; 0: profiles are not distributed */
	bool		has_left;		/* it is on another node now, which goes on with it */
	PsPass		pass;			/* the pass of this refresh, or the last one */
	bool		in_pass;		/* this refresh goes on with the pass */
	bool		put_off;		/* customers with older scores were to come again at the end */
	bool		missed;			/* and some have not got new ones */
	void		(*between) (void);	/* called between batches; NULL: nothing is */
	MemoryContext home;			/* of the whole refresh */
	MemoryContext context;		/* of one batch */
	PsRefreshCounts counts;
	bool		notify;
	PsMoment	batch_began;
	PsMoment	locked_at;
	bool		locked;
	Oid			function;		/* replaces the default scores; InvalidOid: there is none */
	Oid			function_owner; /* the function runs with his rights */
	PsScored   *calling;		/* the profile for which the function is called */
	int			slow;			/* profiles for which the function took too long */
} PsRefresh;

/* refresh.c: begins a refresh, false when another one runs in this database; ends it */
extern bool ps_refresh_start(PsRefresh *refresh);
extern void ps_refresh_finish(void);

/* Begins the transaction of a batch; false: there is none, because the shard has left this node. */
extern bool ps_refresh_begin_batch(PsRefresh *refresh);

/* Refreshes a part: all profiles, or where these are distributed those of one shard after the other that is on this node, or comes. */
extern void ps_refresh_each_shard(PsRefresh *refresh, void (*part) (PsRefresh *refresh, void *arg), void *arg);

/* Calls write, unless it is NULL, and commits. Does both again without notifications when their queue is full. */
extern void ps_refresh_commit_batch(PsRefresh *refresh, void (*write) (PsRefresh *refresh, void *arg), void *arg);

/* Takes the locks of customers until the transaction ends, those that are free within a time; had[i] says which. */
extern void ps_refresh_lock(PsRefresh *refresh, const char **customer_ids, int n, int wait_ms, bool *had);

/* Does work in a subtransaction. Returns its error, NULL: none; raises errors that are not the fault of the profiles or of users' code. */
extern ErrorData *ps_refresh_attempt(void (*work) (void *arg), void *arg);

/* Writes changes of segments, and notifies of them unless the queue is full. */
extern void ps_refresh_announce(PsRefresh *refresh, const PsSegmentChange *changes, int n, const char *kind);

/* Notifies those who watch scores of these changes, unless the queue is full. */
extern void ps_refresh_announce_scores(PsRefresh *refresh, const PsWatches *watches, const PsScoreChange *changes, int n);

/* Removes changes of segments older than profile_stream.segment_change_retention. */
extern void ps_refresh_discard(PsRefresh *refresh);

/* Counts the customers of each segment for the day; again: also when this day has been counted. */
extern void ps_refresh_count_segments(PsRefresh *refresh, bool again);

/* Tells whose predicate is evaluated from now on, NULL: none. The name must live as long as the refresh. */
extern void ps_refresh_note_segment(const char *name);

/* Before and after code of users, which errors call so. The end raises if the code took longer than the setting allows. */
extern void ps_refresh_begin_code(const char *title, int timeout_ms, const char *setting);
extern void ps_refresh_end_code(void);

/* Whether that ended the last attempt. */
extern bool ps_refresh_code_was_ended(void);

/* score_function.c: finds the function that replaces the default scores, if there is one; calls it for profiles */
extern void ps_score_function_get(PsRefresh *refresh);
extern void ps_score_function_call(PsRefresh *refresh, PsScored **profiles, int n);

/* Raises unless a function can replace the default scores and run with the rights of the role. */
extern void ps_score_function_check(Oid function, Oid role);

/* A segment in a refresh. */
typedef struct PsSegmentRefresh
{
	const PsSegment *segment;
	const char *error;			/* NULL: none so far */
	int64		left_ms;		/* time that its predicate may still take */
	bool		is_noted;		/* the result is stored */
} PsSegmentRefresh;

typedef struct PsSegmentsRefresh
{
	List	   *walks;			/* PsSegmentRefresh */
	List	   *shards;			/* texts: numbers of the shards that were here until all of their customers were seen */
} PsSegmentsRefresh;

/* score_refresh.c, segment_refresh.c: a whole refresh; name NULL: all segments */
extern void ps_scores_refresh(PsRefresh *refresh);
extern void ps_segments_refresh(PsRefresh *refresh, const char *name, PsSegmentsRefresh *all);

#endif							/* PS_REFRESH_H */
