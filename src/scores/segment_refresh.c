/*
 * segment_refresh.c
 *	  A refresh of segments by rule walks along the primary key of the profiles, once for
 *	  each segment. It evaluates the predicate for a range of profiles with the rights of
 *	  the segment's owner. Customers enter and leave under their locks, so that none enters
 *	  while it is being forgotten.
 */
#include "postgres.h"

#include "apply/live.h"
#include "miscadmin.h"
#include "process/wait_event.h"
#include "scores/refresh.h"
#include "settings.h"
#include "storage/latch.h"
#include "store/user_code.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define VISIT_WAIT_MS 200		/* for the locks of customers whose live segments are repaired */
#define FILL_MS 5000			/* for transactions that apply events, before a new segment sees all customers */
#define FILL_STEP_MS 20

typedef struct Range
{
	const PsSegment *segment;
	const char *after;
	const char *upto;			/* NULL: to the end */
	Datum		matches;
	PsMove	  **moves;
	int			nmoves;
	int64		left_ms;		/* time that the predicate may still take in this refresh */
} Range;

/* Evaluates the predicate for the range. */
static void
segment_refresh_evaluate(void *arg)
{
	Range	   *range = arg;
	PsRole		back = ps_role_become(range->segment->owner);
	PsMoment	began = ps_clock_now();

	ps_role_fix_settings();
	ps_refresh_begin_code("the predicate", ps_segment_timeout_ms == 0 ? 0 : (int) Max(range->left_ms, 1), "profile_stream.segment_timeout");
	range->matches = ps_segment_matches(range->segment->predicate, range->after, range->upto);
	ps_refresh_end_code();
	range->left_ms -= (ps_clock_now() - began) / 1000;
	ps_role_return(back);
}

/* Moves the customers whose locks are free, and notifies of that. The others move in the next refresh. */
static void
segment_refresh_write_range(PsRefresh *refresh, void *arg)
{
	Range	   *range = arg;
	int			n = range->nmoves;
	const char **ids = palloc(Max(n, 1) * sizeof(char *));
	bool	   *had = palloc(Max(n, 1) * sizeof(bool));
	PsMove	  **moves = palloc(Max(n, 1) * sizeof(PsMove *));
	PsSegmentChange *changes = palloc0(Max(n, 1) * sizeof(PsSegmentChange));
	int			nmoves = 0;
	int			nchanges = 0;

	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
		ids[i] = range->moves[i]->customer_id;
	ps_refresh_lock(refresh, ids, n, 0, had);
	for (int i = 0; i < n; i++)
	{
		range->moves[i]->done = false;
		if (had[i])
			moves[nmoves++] = range->moves[i];
	}
	refresh->counts.skipped += n - nmoves;
	ps_segment_move(range->segment->name, moves, nmoves, GetCurrentTimestamp());
	for (int i = 0; i < nmoves; i++)
	{
		if (!moves[i]->done)
			continue;
		changes[nchanges].customer_id = moves[i]->customer_id;
		changes[nchanges].from = moves[i]->enters ? NULL : range->segment->name;
		changes[nchanges++].to = moves[i]->enters ? range->segment->name : NULL;
	}
	ps_refresh_announce(refresh, changes, nchanges, "rule");
}

/*
 * Visits the customers of a range, of a live segment, under their locks. A customer may
 * differ from what is stored because time has passed. The visit also finds out when the
 * customer has to be looked at again.
 */
static void
segment_refresh_visit_range(PsRefresh *refresh, void *arg)
{
	Range	   *range = arg;
	int			n = range->nmoves;
	const char **ids = palloc(Max(n, 1) * sizeof(char *));
	bool	   *had = palloc(Max(n, 1) * sizeof(bool));
	PsLiveWork *work = n == 0 ? NULL : ps_live_begin();
	int			nours = 0;

	if (work == NULL)
		return;
	for (int i = 0; i < n; i++)
		ids[i] = range->moves[i]->customer_id;
	ps_refresh_lock(refresh, ids, n, VISIT_WAIT_MS, had);
	for (int i = 0; i < n; i++)
		if (had[i])
			ids[nours++] = ids[i];
	refresh->counts.skipped += n - nours;
	ps_live_visit(work, ids, nours, NULL, NULL);
	ps_live_tell_sinks(work);
	refresh->counts.segment_changes += ps_live_write(work, refresh->notify);
}

/* Notes the result of a segment's refresh. */
static void
write_note(PsRefresh *refresh, void *arg)
{
	PsSegmentRefresh *walk = arg;

	ps_segment_note(walk->segment->name, walk->error);
	/* live again: its predicate was evaluated for all */
	if (walk->error == NULL && walk->segment->is_live && walk->segment->is_blocked)
		ps_segment_renew(walk->segment->name);
}

/* Why the predicate of a segment must not be evaluated; NULL: it may be. */
static const char *
find_obstacle(const PsSegment *segment)
{
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(segment->owner)))
		return "the role that owned it is gone; alter_segment() gives it to another role";
	return segment->confirmed ? NULL : "it is not confirmed; confirm_code() confirms it";
}

typedef struct Sweep
{
	int			visited;
	bool		fills;			/* a segment has not seen all customers yet */
} Sweep;

static void
segment_refresh_sweep(PsRefresh *refresh, void *arg)
{
	Sweep	   *sweep = arg;
	PsLiveFilling filling;

	sweep->visited = ps_live_sweep(refresh->batch, refresh->notify);
	sweep->fills = ps_live_filling(&filling);
}

/* Does all checks that are due, and lets new live segments see all customers. Waits for a while for those who apply events. */
static void
sweep_all(PsRefresh *refresh)
{
	Sweep		sweep;
	PsMoment	deadline = ps_moment_plus(ps_clock_now(), FILL_MS);

	do
	{
		(void) ps_refresh_begin_batch(refresh);
		ps_refresh_commit_batch(refresh, segment_refresh_sweep, &sweep);
		if (sweep.visited == 0 && sweep.fills)
			(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, FILL_STEP_MS, ps_wait_event(PS_WAIT_STREAM));
	} while (sweep.visited > 0 || (sweep.fills && ps_clock_left(deadline) > 0));
}

/* Lets a segment have the members that its predicate says, of all profiles or of those of a shard. */
static void
walk_segment(PsRefresh *refresh, PsSegmentRefresh *walk)
{
	const PsSegment *segment = walk->segment;
	Range		range = {.segment = segment,.after = "",.left_ms = walk->left_ms};

	ps_refresh_note_segment(segment->name);
	while (walk->error == NULL && ps_refresh_begin_batch(refresh))
	{
		ErrorData  *raised;

		range.upto = ps_segments_range(range.after, refresh->batch);
		raised = ps_refresh_attempt(segment_refresh_evaluate, &range);
		if (raised != NULL)
		{
			walk->error = MemoryContextStrdup(refresh->home, raised->message);
			ps_refresh_commit_batch(refresh, NULL, NULL);
			break;
		}
		range.nmoves = ps_segment_moves(segment->name, range.after, range.upto, range.matches, &range.moves);
		ps_refresh_commit_batch(refresh, segment->is_live && !segment->is_blocked ? segment_refresh_visit_range : segment_refresh_write_range, &range);
		if (range.upto == NULL)
			break;
		range.after = MemoryContextStrdup(refresh->home, range.upto);
	}
	walk->left_ms = range.left_ms;
	ps_refresh_note_segment(NULL);
}

static void
segment_refresh_clean(PsRefresh *refresh, void *arg)
{
	ps_live_remove_strangers();
}

/* Notes how the refresh of a segment ended. */
static void
end_walk(PsRefresh *refresh, PsSegmentRefresh *walk)
{
	(void) ps_refresh_begin_batch(refresh);
	ps_refresh_commit_batch(refresh, write_note, walk);
	walk->is_noted = true;
	if (walk->error != NULL)
		ereport(WARNING,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("segment \"%s\" could not be refreshed: %s", walk->segment->name, walk->error),
				 errhint("profile_stream.stat_code shows whose rights its predicate runs with.")));
}

/* All segments, on all profiles or on those of a shard. */
static void
refresh_segments_of_part(PsRefresh *refresh, void *arg)
{
	PsSegmentsRefresh *all = arg;
	ListCell   *cell;

	if (refresh->shard != 0 && ps_refresh_begin_batch(refresh))
		ps_refresh_commit_batch(refresh, segment_refresh_clean, NULL);
	foreach(cell, all->walks)
	{
		walk_segment(refresh, lfirst(cell));
		/* where profiles are not distributed that was all of it */
		if (refresh->shard == 0)
			end_walk(refresh, lfirst(cell));
	}
	ps_refresh_discard(refresh);
	MemoryContextSwitchTo(refresh->home);
	if (!refresh->has_left)
		all->shards = lappend(all->shards, psprintf(INT64_FORMAT, refresh->shard));
}

/* Finds the segments, and what keeps each from being evaluated. */
static void
begin_walks(PsRefresh *refresh, const char *name, PsSegmentsRefresh *all)
{
	List	   *segments;
	ListCell   *cell;

	(void) ps_refresh_begin_batch(refresh);
	MemoryContextSwitchTo(refresh->home);
	segments = ps_segments_find(name);
	if (name != NULL && segments == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("segment \"%s\" does not exist", name),
				 errhint("The view stat_code lists them.")));
	foreach(cell, segments)
	{
		PsSegmentRefresh *walk = palloc0(sizeof(PsSegmentRefresh));

		walk->segment = lfirst(cell);
		walk->error = find_obstacle(walk->segment);
		walk->left_ms = ps_segment_timeout_ms;
		all->walks = lappend(all->walks, walk);
	}
	ps_refresh_commit_batch(refresh, NULL, NULL);
}

void
ps_segments_refresh(PsRefresh *refresh, const char *name, PsSegmentsRefresh *all)
{
	ListCell   *cell;

	sweep_all(refresh);
	begin_walks(refresh, name, all);
	ps_refresh_each_shard(refresh, refresh_segments_of_part, all);
	foreach(cell, all->walks)
	{
		if (!((PsSegmentRefresh *) lfirst(cell))->is_noted)
			end_walk(refresh, lfirst(cell));
	}
	ps_refresh_count_segments(refresh, name == NULL);
	MemoryContextSwitchTo(refresh->home);
}
