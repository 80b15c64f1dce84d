/*
 * score_refresh.c
 *	  A refresh of scores walks along the primary key, over the profiles whose scores are
 *	  too old. It computes a batch without locks. Then it takes the locks of the customers
 *	  whose scores change, and writes the profiles that are still as they were read.
 *	  Customers who were locked, or changed meanwhile, come again at the end.
 *
 *	  A page has room for new versions of some of its rows only. So many batches are found
 *	  at once. They take a fifth of the rows of each page, then the next, and so on. When
 *	  they come back to a page, its old versions are dead, and their room is used.
 *
 *	  An error may come from one profile: through a user's function, a trigger or a damaged
 *	  row. The batch is halved until that profile is found; it keeps its scores.
 */
#include "postgres.h"

#include "apply/live.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "scores/refresh.h"
#include "store/locks.h"
#include "store/outbox.h"
#include "store/shard_fence.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define BATCHES 32				/* found at once */
#define MAX_LATER 100000		/* customers at most who come again at the end */
#define ROUNDS 5				/* so often they do */
#define WAIT_MS 200				/* for the locks of a batch, in the last round */
#define LONG_MS 1000			/* after a batch that took longer the next one is smaller */
#define MAX_SLOW 10				/* the refresh ends when the function took too long for so many profiles */

/* A part of a batch. */
typedef struct Range
{
	PsRefresh  *refresh;
	PsScored  **profiles;
	int			n;
	void		(*work) (void *range);
} Range;

/*
 * Notes that the function took too long for a profile, so that it is not called for it
 * again. Raises when that happens too often: then the profiles are not the cause.
 */
static void
note_slow(PsRefresh *refresh, const ErrorData *error)
{
	refresh->calling->slow = true;
	if (++refresh->slow < MAX_SLOW)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("the refresh ends, because the score function failed for %d profiles: %s", refresh->slow, error->message),
			 errhint("Make it faster, or raise profile_stream.handler_timeout.")));
}

/* Does the work of a range; halves it after an error. */
static void
score_refresh_isolate(const Range *range)
{
	Range		half = *range;
	PsRefreshCounts before = range->refresh->counts;
	ErrorData  *error;

	if (range->n == 0)
		return;
	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	error = ps_refresh_attempt(range->work, unconstify(Range *, range));
	if (error == NULL)
		return;
	range->refresh->counts = before;
	if (ps_refresh_code_was_ended())
		note_slow(range->refresh, error);
	if (range->n == 1)
	{
		range->profiles[0]->failed = true;
		range->refresh->counts.failed++;
		ps_refresh_note_error(psprintf("customer \"%s\": %s", range->profiles[0]->customer_id, error->message));
		return;
	}
	half.n = range->n / 2;
	score_refresh_isolate(&half);
	half.profiles += half.n;
	half.n = range->n - half.n;
	score_refresh_isolate(&half);
}

/* Computes the scores of a range without locks. */
static void
score_refresh_compute(void *arg)
{
	Range	   *range = arg;

	for (int i = 0; i < range->n; i++)
		range->profiles[i]->found = false;
	ps_scores_read(range->profiles, range->n, range->refresh->as_of, OidIsValid(range->refresh->function));
	if (OidIsValid(range->refresh->function))
		ps_score_function_call(range->refresh, range->profiles, range->n);
}

static const char *const score_names[] = {PS_SCORE_SEGMENT, PS_SCORE_CHURN_RISK, PS_SCORE_LIFETIME_VALUE};

/* Whether the score of that number has changed. */
static bool
score_differs(const PsScored *profile, int score)
{
	if (score == 0)
		return strcmp(profile->old.segment, profile->new.segment) != 0;
	if (score == 1)
		return profile->old.churn_risk_score != profile->new.churn_risk_score;
	return !DatumGetBool(DirectFunctionCall2(numeric_eq, profile->old.lifetime_value, profile->new.lifetime_value));
}

/* Whether any score has changed. */
static bool
score_refresh_differs(const PsScored *profile)
{
	for (int i = 0; i < lengthof(score_names); i++)
		if (score_differs(profile, i))
			return true;
	return false;
}

/* The numbers of the watched scores that have changed. */
static Bitmapset *
watched_scores(const PsWatches *watches, const PsScored *profile)
{
	Bitmapset  *changed = NULL;

	for (int i = 0; watches != NULL && i < lengthof(score_names); i++)
	{
		int			number = score_differs(profile, i) ? ps_watch_find(&watches->names, score_names[i]) : -1;

		if (number >= 0)
			changed = bms_add_member(changed, number);
	}
	return changed;
}

/* Adds changed profiles to the outbox, and notifies those who watch their scores. */
static void
tell_scores(PsRefresh *refresh, const PsScored *const *profiles, int n)
{
	const PsWatches *watches = ps_watches_get();
	PsChange   *changes = palloc0(Max(n, 1) * sizeof(PsChange));
	PsScoreChange *scores = palloc(Max(n, 1) * sizeof(PsScoreChange));

	for (int i = 0; i < n; i++)
	{
		changes[i].customer_id = profiles[i]->customer_id;
		changes[i].changed = watched_scores(watches, profiles[i]);
		scores[i] = (PsScoreChange)
		{
			profiles[i]->customer_id, profiles[i]->version, profiles[i]->updated_at, changes[i].changed
		};
	}
	ps_outbox_add_changes(changes, n, watches);
	ps_refresh_announce_scores(refresh, watches, scores, n);
}

/* Lets live segments see customers whose scores changed; returns how many entered or left one. */
static int
visit_changed(PsRefresh *refresh, const PsScored *const *profiles, int n)
{
	PsLiveWork *work = n == 0 ? NULL : ps_live_begin();
	const char **ids = palloc(Max(n, 1) * sizeof(char *));

	if (work == NULL)
		return 0;
	for (int i = 0; i < n; i++)
		ids[i] = profiles[i]->customer_id;
	ps_live_visit(work, ids, n, NULL, NULL);
	return ps_live_write(work, refresh->notify);
}

/* Writes the scores of a range under the customers' locks. Tells sinks of changed profiles, and notifies of changed segments. */
static void
score_refresh_write_range(void *arg)
{
	Range	   *range = arg;
	const PsScored **changed = palloc(range->n * sizeof(PsScored *));
	PsSegmentChange *changes = palloc0(range->n * sizeof(PsSegmentChange));
	PsRefreshCounts counts = range->refresh->counts;
	int			nchanged = 0;
	int			nchanges = 0;
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < range->n; i++)
		range->profiles[i]->done = false;
	ps_scores_write(range->profiles, range->n, now);
	ps_scores_keep_old(range->profiles, range->n, now);
	for (int i = 0; i < range->n; i++)
	{
		const PsScored *profile = range->profiles[i];

		if (!profile->done)
			continue;
		counts.done++;
		if (!score_refresh_differs(profile))
			continue;
		changed[nchanged++] = profile;
		if (strcmp(profile->old.segment, profile->new.segment) == 0)
			continue;
		changes[nchanges].customer_id = profile->customer_id;
		changes[nchanges].from = profile->old.segment;
		changes[nchanges++].to = profile->new.segment;
	}
	counts.changed += nchanged;
	counts.segment_changes += visit_changed(range->refresh, changed, nchanged);
	range->refresh->counts = counts;
	tell_scores(range->refresh, changed, nchanged);
	ps_refresh_announce(range->refresh, changes, nchanges, "score");
}

typedef struct Batch
{
	PsScored  **profiles;
	int			n;
	int			wait_ms;
	const char *reached;		/* the pass has come up to this customer with the batch; NULL: it tells nothing */
	bool		is_last;		/* nobody comes again after it */
} Batch;

/* Writes the profiles of a batch whose locks were taken, and counts those that stay as they are. */
static void
score_refresh_write_batch(PsRefresh *refresh, PsScored **changed, int n, const bool *had, Batch *batch)
{
	Range		range = {refresh, palloc(Max(n, 1) * sizeof(PsScored *)), 0, score_refresh_write_range};

	for (int i = 0; i < n; i++)
		if (had[i])
			range.profiles[range.n++] = changed[i];
	score_refresh_isolate(&range);
	for (int i = 0; i < batch->n; i++)
	{
		PsScored   *profile = batch->profiles[i];

		if (!profile->found || profile->failed || profile->unscored || score_refresh_differs(profile))
			continue;
		profile->done = true;
		refresh->counts.done++;
	}
}

/* Stores that the pass has come up to a customer. */
static void
score_refresh_reach(PsRefresh *refresh, const char *customer_id, bool owed)
{
	PsPass		pass = refresh->pass;

	if (strcmp(customer_id, pass.reached) < 0)
		return;
	pass.reached = customer_id;
	pass.missed |= owed;
	ps_pass_write(&pass);
}

/* Whether the pass would pass over a profile that keeps older scores. Those without scores are due anyway. */
static bool
is_owed(const PsScored *profile)
{
	return (profile->failed || (profile->found && !profile->done)) && !profile->unscored;
}

/*
 * Locks the customers of a batch whose scores change, and writes those whose lock was
 * free. The customer up to whom the pass has come is locked too: he is not noted while
 * he is being forgotten.
 */
static void
write_batch(PsRefresh *refresh, void *arg)
{
	Batch	   *batch = arg;
	PsScored  **changed = palloc((batch->n + 1) * sizeof(PsScored *));
	const char **ids = palloc((batch->n + 1) * sizeof(char *));
	bool	   *had = palloc((batch->n + 1) * sizeof(bool));
	bool		owed = refresh->put_off;
	int			n = 0;

	for (int i = 0; i < batch->n; i++)
	{
		PsScored   *profile = batch->profiles[i];

		profile->done = false;
		if (!profile->found || profile->failed || !(profile->unscored || score_refresh_differs(profile)))
			continue;
		ids[n] = profile->customer_id;
		changed[n++] = profile;
	}
	ids[n] = batch->reached;
	ps_refresh_lock(refresh, ids, n + (batch->reached != NULL), batch->wait_ms, had);
	score_refresh_write_batch(refresh, changed, n, had, batch);
	ps_refresh_progress(&refresh->counts);
	for (int i = 0; i < batch->n; i++)
		owed |= is_owed(batch->profiles[i]);
	if (batch->reached != NULL && had[n])
		score_refresh_reach(refresh, batch->reached, owed);
}

/* Scores a batch and commits. Returns the list, to which it adds the customers who must come again. */
static List *
refresh_batch(PsRefresh *refresh, Batch *batch, List *later)
{
	Range		range = {refresh, batch->profiles, batch->n, score_refresh_compute};

	ps_score_function_get(refresh);
	score_refresh_isolate(&range);
	ps_refresh_commit_batch(refresh, write_batch, batch);
	MemoryContextSwitchTo(refresh->home);
	refresh->at_once = refresh->counts.batch_ms > LONG_MS ? Max(1, batch->n / 2) : Min(refresh->batch, 2 * refresh->at_once);
	for (int i = 0; i < batch->n; i++)
	{
		const PsScored *profile = batch->profiles[i];

		refresh->put_off |= is_owed(profile);
		if (profile->found && !profile->failed && !profile->done)
		{
			if (!batch->is_last && list_length(later) < MAX_LATER)
			{
				later = lappend(later, pstrdup(profile->customer_id));
				continue;
			}
			refresh->counts.skipped++;
		}
		refresh->missed |= is_owed(profile);
	}
	return later;
}

static int
compare_places(const void *a, const void *b)
{
	return ItemPointerCompare(&((PsDue *) a)->place, &((PsDue *) b)->place);
}

static int
compare_turns(const void *a, const void *b)
{
	int			x = ((const PsDue *) a)->turn;
	int			y = ((const PsDue *) b)->turn;

	return x == y ? compare_places(a, b) : x < y ? -1 : 1;
}

/* Orders profiles so that those of one page are far from each other, but for a fifth, for which it has room. */
static void
spread_pages(PsDue *due, int n)
{
	int			first = 0;

	qsort(due, n, sizeof(PsDue), compare_places);
	for (int next = 1; next <= n; next++)
	{
		if (next < n && ItemPointerGetBlockNumber(&due[next].place) == ItemPointerGetBlockNumber(&due[first].place))
			continue;
		for (int i = first; i < next; i++)
			due[i].turn = (i - first) / Max(1, (next - first) / 5);
		first = next;
	}
	qsort(due, n, sizeof(PsDue), compare_turns);
}

/* Scores profiles that were found at once, batch after batch; the transaction of the first one is under way. */
static List *
score_refresh_window(PsRefresh *refresh, const PsDue *due, int n, const char *last, List *later)
{
	for (int next = 0; next < n;)
	{
		Batch		batch = {0};

		if (next > 0 && !ps_refresh_begin_batch(refresh))
			break;
		batch.profiles = palloc(refresh->at_once * sizeof(PsScored *));
		for (; next < n && batch.n < refresh->at_once; next++)
		{
			batch.profiles[batch.n] = palloc0(sizeof(PsScored));
			batch.profiles[batch.n++]->customer_id = due[next].customer_id;
		}
		if (refresh->in_pass && next == n)
			batch.reached = last;
		later = refresh_batch(refresh, &batch, later);
	}
	return later;
}

/* Walks along the primary key; returns the customers who must come again. */
static List *
score_refresh_walk(PsRefresh *refresh)
{
	MemoryContext window = AllocSetContextCreate(refresh->home, "profile_stream scores", ALLOCSET_DEFAULT_SIZES);
	char	   *last = pstrdup("");
	List	   *later = NIL;

	while (ps_refresh_begin_batch(refresh))
	{
		PsDue	   *due;
		int			limit = refresh->at_once * BATCHES;
		int			n;

		MemoryContextReset(window);
		MemoryContextSwitchTo(window);
		due = palloc(limit * sizeof(PsDue));
		n = ps_scores_due(last, &refresh->pass, limit, due);
		MemoryContextSwitchTo(refresh->context);
		if (n == 0)
		{
			ps_refresh_commit_batch(refresh, NULL, NULL);
			break;
		}
		pfree(last);
		last = MemoryContextStrdup(refresh->home, due[n - 1].customer_id);
		spread_pages(due, n);
		later = score_refresh_window(refresh, due, n, last, later);
	}
	MemoryContextDelete(window);
	MemoryContextSwitchTo(refresh->home);
	return later;
}

/* Scores the customers of a list; returns those who must come again. */
static List *
come_again(PsRefresh *refresh, List *list, bool is_last)
{
	List	   *later = NIL;
	int			next = 0;

	while (next < list_length(list) && ps_refresh_begin_batch(refresh))
	{
		Batch		batch = {.wait_ms = is_last ? WAIT_MS : 0,.is_last = is_last};

		batch.profiles = palloc(refresh->at_once * sizeof(PsScored *));
		for (; next < list_length(list) && batch.n < refresh->at_once; next++)
		{
			batch.profiles[batch.n] = palloc0(sizeof(PsScored));
			batch.profiles[batch.n++]->customer_id = list_nth(list, next);
		}
		later = refresh_batch(refresh, &batch, later);
	}
	list_free_deep(list);
	return later;
}

/* A step of ps_each_shard(): begins a pass; goes on with the last one when its scores are fresh enough. */
static int64
begin_pass(void *arg)
{
	PsRefresh  *refresh = arg;

	MemoryContextSwitchTo(refresh->home);
	ps_pass_read(&refresh->pass);
	MemoryContextSwitchTo(refresh->context);
	refresh->in_pass = refresh->pass.reached != NULL;
	if (refresh->pass.began_at <= refresh->before)
	{
		PsPass		pass = {.began_at = GetCurrentTimestamp(),.reached = ""};

		refresh->pass = pass;
		refresh->in_pass = true;
	}
	ps_pass_write(&refresh->pass);
	return 0;
}

static void
write_pass_begin(PsRefresh *refresh, void *arg)
{
	(void) begin_pass(refresh);
}

/* Ends the pass. One that has missed somebody counts for nothing, so that the next refresh begins another. */
static void
write_pass_end(PsRefresh *refresh, void *arg)
{
	PsPass		pass = {.began_at = refresh->pass.began_at};

	if (!refresh->in_pass)
		return;
	if (refresh->pass.missed || refresh->missed)
		pass.began_at = DT_NOBEGIN;
	ps_pass_write(&pass);
}

/* Refreshes all profiles, or those of a shard. */
static void
refresh_part(PsRefresh *refresh, void *arg)
{
	List	   *later;

	refresh->put_off = refresh->missed = false;
	if (!ps_refresh_begin_batch(refresh))
		return;
	ps_refresh_commit_batch(refresh, write_pass_begin, NULL);
	MemoryContextSwitchTo(refresh->home);
	later = score_refresh_walk(refresh);
	for (int round = 1; round <= ROUNDS && later != NIL; round++)
		later = come_again(refresh, later, round == ROUNDS);
	if (ps_refresh_begin_batch(refresh))
		ps_refresh_commit_batch(refresh, write_pass_end, NULL);
	ps_refresh_discard(refresh);
}

/* All passes begin together: when the refresh is interrupted, the next one finds those of all shards. */
static void
write_begin(PsRefresh *refresh, void *arg)
{
	ps_refresh_begin();
	(void) ps_each_shard(begin_pass, refresh);
}

static void
write_end(PsRefresh *refresh, void *arg)
{
	ps_refresh_end(&refresh->counts);
}

void
ps_scores_refresh(PsRefresh *refresh)
{
	(void) ps_refresh_begin_batch(refresh);
	ps_refresh_commit_batch(refresh, write_begin, NULL);
	refresh->at_once = refresh->batch;
	ps_refresh_each_shard(refresh, refresh_part, NULL);
	ps_refresh_count_segments(refresh, true);
	(void) ps_refresh_begin_batch(refresh);
	ps_refresh_commit_batch(refresh, write_end, NULL);
	MemoryContextSwitchTo(refresh->home);
}
