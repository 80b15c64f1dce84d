/*
 * live_sweep.c
 *	  Visits customers without an event: those of whom a check is due, and all of them for
 *	  a new segment. The first worker of a stream sweeps between batches, and a refresh of
 *	  segments does.
 */
#include "postgres.h"

#include "access/xact.h"
#include "apply/live.h"
#include "settings.h"
#include "store/distributed.h"
#include "store/locks.h"
#include "store/shard_fence.h"
#include "store/shards.h"
#include "utils/timestamp.h"

#define FILL_WAIT_MS 200		/* for the locks of customers whom a new segment sees first */

static int
compare_checks(const void *a, const void *b)
{
	return strcmp(((const PsLiveCheck *) a)->customer_id, ((const PsLiveCheck *) b)->customer_id);
}

/* The checks of visited customers; both lists are in the order of the customers. Returns how many. */
static int
keep_visited(PsLiveCheck *checks, int n, const char **ids, const bool *visited)
{
	int			kept = 0;
	int			of = 0;

	for (int i = 0; i < n; i++)
	{
		if (i > 0 && strcmp(checks[i].customer_id, ids[of]) != 0)
			of++;
		if (visited[of])
			checks[kept++] = checks[i];
	}
	return kept;
}

/* Visits the customers of whom a check is due. One who is locked is left to the next sweep. */
static int
sweep_checks(PsLiveWork *work, int limit)
{
	PsLiveCheck *checks = palloc(limit * sizeof(PsLiveCheck));
	int			nchecks = ps_live_checks_due(ps_live_as_of(work), limit, checks);
	const char **ids = palloc(Max(nchecks, 1) * sizeof(char *));
	const char **ours = palloc(Max(nchecks, 1) * sizeof(char *));
	bool	   *had = palloc(Max(nchecks, 1) * sizeof(bool));
	bool	   *visited = palloc(Max(nchecks, 1) * sizeof(bool));
	int			n = 0;
	int			nours = 0;

	qsort(checks, nchecks, sizeof(PsLiveCheck), compare_checks);
	for (int i = 0; i < nchecks; i++)
		if (i == 0 || strcmp(checks[i].customer_id, checks[i - 1].customer_id) != 0)
			ids[n++] = checks[i].customer_id;
	ps_lock_ids_within(ids, n, 0, had);
	for (int i = 0; i < n; i++)
		if (had[i])
			ours[nours++] = ids[i];
	ps_live_visit(work, ours, nours, NULL, visited);
	/* from the last one on, because those that are visited are among the first */
	for (int i = n - 1; i >= 0; i--)
		had[i] = had[i] && visited[--nours];
	nchecks = keep_visited(checks, nchecks, ids, had);
	ps_live_checks_remove(checks, nchecks);
	return nchecks;
}

/* Visits customers of whom a check is due, and whom segments have not seen yet. */
typedef struct Sweep
{
	int			left;			/* so many more may be visited */
	bool		notify;
	bool		checks;
	bool		fills;
	bool		filled;			/* all customers were seen */
} Sweep;

/* Lets the next customers be seen by segments that have not seen all. None is passed over, because the next one is behind the last. */
static int
sweep_fill(PsLiveWork *work, Sweep *sweep)
{
	const char **ids = palloc(sweep->left * sizeof(char *));
	bool	   *visited = palloc(sweep->left * sizeof(bool));
	PsLiveFilling filling;
	int			n;
	int			done = 0;

	if (!ps_live_filling(&filling))
		return 0;
	sweep->filled = false;
	if (!ps_lock_appliers_are_gone(filling.last_id))
		return 0;
	n = ps_live_customers_after(filling.from, sweep->left, ids);
	ps_lock_ids_within(ids, n, FILL_WAIT_MS, visited);
	while (done < n && visited[done])
		done++;
	ps_live_fill(work);
	ps_live_visit(work, ids, done, NULL, visited);
	for (int i = 0; i < done; i++)
		if (!visited[i])
			done = i;
	if (done == n && n < sweep->left)
		ps_live_fill_end(&filling);
	else if (done > 0)
		ps_live_fill_note(&filling, ids[done - 1]);
	return done;
}

static int64
sweep_step(void *arg)
{
	Sweep	   *sweep = arg;
	PsLiveWork *work = sweep->left > 0 ? ps_live_begin() : NULL;
	int			done = 0;

	if (work == NULL)
	{
		sweep->filled = false;
		return 0;
	}
	if (sweep->checks)
		done = sweep_checks(work, sweep->left);
	sweep->left -= done;
	if (sweep->fills && sweep->left > 0 && (ps_live_set(work)->is_filling || ps_shards_used() != PS_NO_SHARD))
	{
		int			seen = sweep_fill(work, sweep);

		sweep->left -= seen;
		done += seen;
	}
	ps_live_tell_sinks(work);
	(void) ps_live_write(work, sweep->notify);
	PS_FAILPOINT("after_sweep");
	return done;
}

/* Checks of all shards come before the customers of any shard that segments have not seen. */
static int
sweep_shards(int limit, bool notify)
{
	Sweep		sweep = {limit, notify,.checks = true};
	const PsLiveSet *set = ps_live_segments();
	PsLiveFilling all = {"", set == NULL ? 0 : set->last_id};
	bool		is_filling = set != NULL && set->is_filling;
	int			done;

	if (set == NULL)
		return 0;
	done = ps_each_shard(sweep_step, &sweep);
	sweep.checks = false;
	sweep.fills = sweep.filled = true;
	sweep.left = limit - done;
	done += ps_each_shard(sweep_step, &sweep);
	if (is_filling && sweep.filled)
		ps_live_fill_end(&all);
	return done;
}

int
ps_live_sweep(int limit, bool notify)
{
	Sweep		sweep = {limit, notify,.checks = true,.fills = true};

	return ps_distributed() ? sweep_shards(limit, notify) : (int) sweep_step(&sweep);
}
