/*
 * score_refresh.c
 *	  A refresh of scores walks along the primary key, over the profiles whose scores are
 *	  too old. It computes a batch without locks. Then it takes the customers' locks and
 *	  writes the profiles that are still as they were read. Customers who were locked, or
 *	  changed meanwhile, come again at the end.
 *
 *	  An error may come from one profile: through a user's function, a trigger or a damaged
 *	  row. The batch is halved until that profile is found; it keeps its scores.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "scores/refresh.h"
#include "store/locks.h"
#include "store/outbox.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MAX_LATER 100000		/* customers at most who come again at the end */
#define ROUNDS 5				/* so often they do */
#define WAIT_MS 200				/* for the locks of a batch, in the last round */
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

static bool
score_refresh_differs(const PsScored *profile)
{
	return strcmp(profile->old.segment, profile->new.segment) != 0 ||
		profile->old.churn_risk_score != profile->new.churn_risk_score ||
		!DatumGetBool(DirectFunctionCall2(numeric_eq, profile->old.lifetime_value, profile->new.lifetime_value));
}

/* Writes the scores of a range under the customers' locks. Adds changed profiles to the outbox, and notifies of changed segments. */
static void
score_refresh_write_range(void *arg)
{
	Range	   *range = arg;
	const char **changed = palloc(range->n * sizeof(char *));
	PsSegmentChange *changes = palloc(range->n * sizeof(PsSegmentChange));
	PsRefreshCounts counts = range->refresh->counts;
	int			nchanged = 0;
	int			nchanges = 0;

	for (int i = 0; i < range->n; i++)
		range->profiles[i]->written = false;
	ps_scores_write(range->profiles, range->n, GetCurrentTimestamp());
	for (int i = 0; i < range->n; i++)
	{
		const PsScored *profile = range->profiles[i];

		if (!profile->written)
			continue;
		counts.done++;
		if (!score_refresh_differs(profile))
			continue;
		changed[nchanged++] = profile->customer_id;
		if (strcmp(profile->old.segment, profile->new.segment) == 0)
			continue;
		changes[nchanges].customer_id = profile->customer_id;
		changes[nchanges].from = profile->old.segment;
		changes[nchanges++].to = profile->new.segment;
	}
	counts.changed += nchanged;
	ps_outbox_add(changed, nchanged);
	range->refresh->counts = counts;
	ps_refresh_announce(range->refresh, changes, nchanges, "score");
}

typedef struct Batch
{
	PsScored  **profiles;
	int			n;
	int			wait_ms;
} Batch;

/* Locks the customers of a batch, and writes those whose lock was free. */
static void
write_batch(PsRefresh *refresh, void *arg)
{
	Batch	   *batch = arg;
	Range		range = {refresh, palloc(Max(batch->n, 1) * sizeof(PsScored *)), 0, score_refresh_write_range};
	const char **ids = palloc(Max(batch->n, 1) * sizeof(char *));
	bool	   *had = palloc(Max(batch->n, 1) * sizeof(bool));

	for (int i = 0; i < batch->n; i++)
		ids[i] = batch->profiles[i]->customer_id;
	ps_refresh_lock(refresh, ids, batch->n, batch->wait_ms, had);
	for (int i = 0; i < batch->n; i++)
		if (had[i] && batch->profiles[i]->found && !batch->profiles[i]->failed)
			range.profiles[range.n++] = batch->profiles[i];
	score_refresh_isolate(&range);
	ps_refresh_progress(&refresh->counts);
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
	for (int i = 0; i < batch->n; i++)
	{
		const PsScored *profile = batch->profiles[i];

		if (profile->written || profile->failed || !profile->found)
			continue;
		if (list_length(later) < MAX_LATER)
			later = lappend(later, pstrdup(profile->customer_id));
		else
			refresh->counts.skipped++;
	}
	return later;
}

/* Walks along the primary key; returns the customers who must come again. */
static List *
score_refresh_walk(PsRefresh *refresh)
{
	char	   *after = pstrdup("");
	List	   *later = NIL;

	for (;;)
	{
		Batch		batch = {0};

		ps_refresh_begin_batch(refresh);
		batch.profiles = palloc(refresh->batch * sizeof(PsScored *));
		batch.n = ps_scores_due(after, refresh->before, refresh->batch, batch.profiles);
		if (batch.n == 0)
			break;
		pfree(after);
		after = MemoryContextStrdup(refresh->home, batch.profiles[batch.n - 1]->customer_id);
		later = refresh_batch(refresh, &batch, later);
	}
	ps_refresh_commit_batch(refresh, NULL, NULL);
	MemoryContextSwitchTo(refresh->home);
	return later;
}

/* Scores the customers of a list; returns those who must come again. */
static List *
come_again(PsRefresh *refresh, List *list, int wait_ms)
{
	List	   *later = NIL;
	int			next = 0;

	while (next < list_length(list))
	{
		Batch		batch = {.wait_ms = wait_ms};

		ps_refresh_begin_batch(refresh);
		batch.profiles = palloc(refresh->batch * sizeof(PsScored *));
		for (; next < list_length(list) && batch.n < refresh->batch; next++)
		{
			batch.profiles[batch.n] = palloc0(sizeof(PsScored));
			batch.profiles[batch.n++]->customer_id = list_nth(list, next);
		}
		later = refresh_batch(refresh, &batch, later);
	}
	list_free_deep(list);
	return later;
}

static void
write_begin(PsRefresh *refresh, void *arg)
{
	ps_refresh_begin();
}

static void
write_end(PsRefresh *refresh, void *arg)
{
	ps_refresh_end(&refresh->counts);
}

void
ps_scores_refresh(PsRefresh *refresh)
{
	List	   *later;

	ps_refresh_begin_batch(refresh);
	ps_refresh_commit_batch(refresh, write_begin, NULL);
	MemoryContextSwitchTo(refresh->home);
	later = score_refresh_walk(refresh);
	for (int round = 1; round <= ROUNDS && later != NIL; round++)
		later = come_again(refresh, later, round == ROUNDS ? WAIT_MS : 0);
	refresh->counts.skipped += list_length(later);
	ps_refresh_discard(refresh);
	ps_refresh_begin_batch(refresh);
	ps_refresh_commit_batch(refresh, write_end, NULL);
	MemoryContextSwitchTo(refresh->home);
}
