/*
 * refresh.h
 *	  What a refresh computes in batch: scores and segments, a batch a transaction.
 *	  It runs in a procedure, or in a process of its own, the scorer.
 *
 *	  Every call of a running refresh is within a non-atomic SPI connection.
 */
#ifndef PS_REFRESH_H
#define PS_REFRESH_H

#include "postgres.h"

#include "clock.h"
#include "process/bgworker.h"
#include "store/score_catalog.h"
#include "store/segment_catalog.h"

typedef struct PsRefresh
{
	int			batch;			/* profiles of one transaction */
	TimestampTz as_of;
	TimestampTz before;			/* what was scored since is left alone */
	void		(*between) (void);	/* called between batches; NULL: nothing to do */
	MemoryContext home;			/* of the whole refresh */
	MemoryContext context;		/* of one batch */
	PsRefreshCounts counts;
	bool		notify;
	PsMoment	batch_began;
	PsMoment	locked_at;
	bool		locked;
	Oid			function;		/* that replaces the defaults, InvalidOid: none; and whose rights it runs with */
	Oid			function_owner;
	PsScored   *calling;		/* for whom it is called */
	int			slow;			/* profiles for which it took too long */
} PsRefresh;

/* refresh.c: begins, unless another refresh runs in this database: false; and ends */
extern bool ps_refresh_start(PsRefresh *refresh);
extern void ps_refresh_finish(void);

/* Begins the transaction of a batch. */
extern void ps_refresh_begin_batch(PsRefresh *refresh);

/* Has it write, or not (NULL), and commits; once more when its notifications found no room. */
extern void ps_refresh_commit_batch(PsRefresh *refresh, void (*write) (PsRefresh *refresh, void *arg), void *arg);

/* Takes the customers' locks that are free within a time, until the transaction ends; had[i] says which. */
extern void ps_refresh_lock(PsRefresh *refresh, const char **customer_ids, int n, int wait_ms, bool *had);

/* Does work in a subtransaction; returns the error that it raised, when that may be the fault of what it worked on. */
extern ErrorData *ps_refresh_attempt(void (*work) (void *arg), void *arg);

/* Writes changes of segments, and announces them unless there is no room. */
extern void ps_refresh_announce(PsRefresh *refresh, const PsSegmentChange *changes, int n, const char *kind);

/* Removes changes of segments that are too old. */
extern void ps_refresh_discard(PsRefresh *refresh);

/* Becomes a role, with which code of that role is run, and back. */
typedef struct PsRole
{
	Oid			user;
	int			context;
	int			nest_level;
} PsRole;

extern PsRole ps_refresh_become(Oid role);
extern void ps_refresh_return(PsRole role);

/* Whose predicate is evaluated from here on; NULL: no segment's. The name lives as long as the refresh. */
extern void ps_refresh_note_segment(const char *name);

/* Around that code: raises when it took longer than a setting says; whether the last attempt failed for that. */
extern void ps_refresh_begin_code(int timeout_ms, const char *setting);
extern void ps_refresh_end_code(const char *what);
extern bool ps_refresh_code_was_ended(void);

/* score_function.c: finds the function that replaces the defaults now, if any, and calls it for profiles that were found */
extern void ps_score_function_get(PsRefresh *refresh);
extern void ps_score_function_call(PsRefresh *refresh, PsScored **profiles, int n);

/* Raises unless a function may replace the defaults, run with the rights of a role. */
extern void ps_score_function_check(Oid function, Oid role);

/* score_refresh.c, segment_refresh.c: a whole refresh; name NULL: all segments */
extern void ps_scores_refresh(PsRefresh *refresh);
extern void ps_segments_refresh(PsRefresh *refresh, const char *name);

#endif							/* PS_REFRESH_H */
