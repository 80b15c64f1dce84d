/*
 * live.c
 *	  Decides who enters and leaves live segments, under the customers' locks. The row of
 *	  a profile knows of which segments its customer is a member; so an event that changes
 *	  no membership reads and writes nothing else.
 *
 *	  The row also knows when a segment can change without an event. That moment is a row
 *	  of segment_checks, too. It only moves to an earlier one while events are applied:
 *	  a check that comes too early costs a visit, in which it moves on.
 */
#include "postgres.h"

#include "access/xact.h"
#include "apply/live.h"
#include "apply/notify.h"
#include "core/attribute.h"
#include "core/segment_state.h"
#include "settings.h"
#include "store/locks.h"
#include "store/outbox.h"
#include "store/secret.h"
#include "store/segment_catalog.h"
#include "store/shards.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

typedef struct Checks
{
	PsLiveCheck *checks;
	int			n;
	int			room;
} Checks;

struct PsLiveWork
{
	const PsLiveSet *set;
	PsLiveRun  *run;
	MemoryContext context;
	TimestampTz as_of;
	bool		fills;
	bool		distrusts;		/* rows of the shard know nothing of the segments of this node */
	PsLiveMove *moves;
	int			nmoves;
	int			moves_room;
	Checks		added;
	Checks		removed;		/* an earlier one takes their place */
};

/* The time by which live segments are evaluated. */
static TimestampTz
live_now(void)
{
#ifdef PS_FAILPOINTS
	if (ps_test_clock_us != 0)
		return ps_test_clock_us;
#endif
	return GetCurrentTimestamp();
}

PsLiveWork *
ps_live_begin(void)
{
	const PsLiveSet *set = ps_live_segments();
	PsLiveWork *work;

	if (set == NULL)
		return NULL;
	work = palloc0(sizeof(PsLiveWork));
	work->set = set;
	work->run = ps_live_run_begin(set);
	work->context = CurrentMemoryContext;
	work->as_of = live_now();
	work->distrusts = ps_shards_used() != PS_NO_SHARD && !ps_live_shard_is_known();
	return work;
}

const PsLiveSet *
ps_live_set(const PsLiveWork *work)
{
	return work->set;
}

TimestampTz
ps_live_as_of(const PsLiveWork *work)
{
	return work->as_of;
}

void
ps_live_fill(PsLiveWork *work)
{
	work->fills = true;
}

/* The array with room for one more element after the first n. */
static void *
live_make_room(PsLiveWork *work, void *array, int n, int *room, size_t size)
{
	if (n < *room)
		return array;
	*room = Max(64, 2 * *room);
	return array == NULL ? MemoryContextAlloc(work->context, *room * size) : repalloc_huge(array, *room * size);
}

static void
live_add_move(PsLiveWork *work, const char *customer_id, const PsLiveSegment *segment, bool enters, const PsEvent *event)
{
	work->moves = live_make_room(work, work->moves, work->nmoves, &work->moves_room, sizeof(PsLiveMove));
	work->moves[work->nmoves++] = (PsLiveMove)
	{
		customer_id, segment->name, enters, segment->quiet_us, event
	};
}

static void
live_add_check(PsLiveWork *work, Checks *checks, TimestampTz due_at, const char *customer_id)
{
	checks->checks = live_make_room(work, checks->checks, checks->n, &checks->room, sizeof(PsLiveCheck));
	checks->checks[checks->n++] = (PsLiveCheck)
	{
		due_at, customer_id
	};
}

/* Profiles on which a decision is made, and what was read of them. */
typedef struct Decision
{
	PsLiveWork *work;
	PsStoredProfile **profiles;
	int			n;
	PsSegmentState *states;
	bool	   *is_asked;		/* the table is asked of which segments the customer is a member */
	bool	   *is_member;		/* a row for each profile: what it answered */
	int		   *sorted;			/* the profiles that are asked, by customer */
	int			nsorted;
} Decision;

static int
compare_profiles(const void *a, const void *b, void *arg)
{
	PsStoredProfile **profiles = arg;

	return strcmp(profiles[*(const int *) a]->customer_id, profiles[*(const int *) b]->customer_id);
}

/* Takes an answer of the table. */
static void
note_member(void *arg, const char *customer_id, const char *name)
{
	Decision   *d = arg;
	const PsLiveSet *set = d->work->set;
	int			low = 0;
	int			high = d->nsorted;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (strcmp(d->profiles[d->sorted[middle]]->customer_id, customer_id) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == d->nsorted || strcmp(d->profiles[d->sorted[low]]->customer_id, customer_id) != 0)
		return;
	for (int s = 0; s < set->nsegments; s++)
		if (strcmp(set->segments[s].name, name) == 0)
			d->is_member[d->sorted[low] * set->nsegments + s] = true;
}

/* Asks the table about customers whose rows do not know all segments. */
static void
read_members(Decision *d, bool distrust)
{
	const char **ids = palloc(d->n * sizeof(char *));

	d->is_asked = palloc0(d->n * sizeof(bool));
	d->is_member = palloc0(d->n * d->work->set->nsegments * sizeof(bool));
	d->sorted = palloc(d->n * sizeof(int));
	for (int i = 0; i < d->n; i++)
	{
		/* a new profile has no members; where it had, a refresh finds them */
		d->is_asked[i] = distrust || (d->states[i].known < d->work->set->last_id && !d->profiles[i]->profile.is_new);
		if (!d->is_asked[i])
			continue;
		ids[d->nsorted] = d->profiles[i]->customer_id;
		d->sorted[d->nsorted++] = i;
	}
	if (d->nsorted == 0)
		return;
	qsort_arg(d->sorted, d->nsorted, sizeof(int), compare_profiles, d->profiles);
	ps_live_members_read(ids, d->nsorted, note_member, d);
}

static int
live_compare_numbers(const void *a, const void *b)
{
	uint32		x = *(const uint32 *) a;
	uint32		y = *(const uint32 *) b;

	return x < y ? -1 : x > y;
}

/*
 * The moment of the next check: an earlier one stays, because it is written already. A later one goes, or events that
 * move the moment again and again would leave a row each.
 */
static TimestampTz
next_check(PsLiveWork *work, const PsSegmentState *before, TimestampTz due_at, const char *customer_id)
{
	bool		stays = before->due_at > work->as_of && before->due_at <= due_at;

	if (stays)
		due_at = before->due_at;
	else if (before->due_at > work->as_of && !TIMESTAMP_IS_NOEND(before->due_at))
		live_add_check(work, &work->removed, before->due_at, customer_id);
	if (!TIMESTAMP_IS_NOEND(due_at) && (!stays || work->fills))
		live_add_check(work, &work->added, due_at, customer_id);
	return due_at;
}

/* Decides about one profile. */
static void
decide_profile(Decision *d, int i, const bool *holds, TimestampTz due_at, const PsEvent *event)
{
	const PsLiveSet *set = d->work->set;
	const PsSegmentState *before = &d->states[i];
	PsProfile  *profile = &d->profiles[i]->profile;
	PsSegmentState after = {.known = set->last_id,.members = palloc(set->nsegments * sizeof(uint32))};

	for (int s = 0; s < set->nsegments; s++)
	{
		const PsLiveSegment *segment = &set->segments[s];
		bool		is_member;
		bool		shall;

		is_member = d->is_asked[i] && segment->id > before->known ?
			d->is_member[i * set->nsegments + s] : ps_segment_state_has(before, segment->id);
		shall = segment->failed ? is_member : holds[s];
		if (is_member != shall)
			live_add_move(d->work, d->profiles[i]->customer_id, segment, shall, event);
		if (shall)
			after.members[after.nmembers++] = segment->id;
	}
	if (after.nmembers > 1)
		qsort(after.members, after.nmembers, sizeof(uint32), live_compare_numbers);
	after.due_at = next_check(d->work, before, due_at, d->profiles[i]->customer_id);
	if (after.due_at != before->due_at || after.known != before->known || after.nmembers != before->nmembers ||
		(after.nmembers > 0 && memcmp(after.members, before->members, after.nmembers * sizeof(uint32)) != 0))
		profile->segment_state = ps_segment_state_write(&after);
}

void
ps_live_decide(PsLiveWork *work, PsStoredProfile **profiles, int n, const PsEvent *const *events, bool distrust)
{
	Decision	d = {work, profiles, n, palloc(Max(n, 1) * sizeof(PsSegmentState))};
	bool	   *holds = palloc(Max(n, 1) * work->set->nsegments * sizeof(bool));
	TimestampTz *due_at = palloc(Max(n, 1) * sizeof(TimestampTz));

	distrust |= work->distrusts;
	for (int i = 0; i < n; i++)
	{
		PsAttributes *attributes = &profiles[i]->profile.attributes;

		ps_segment_state_read(profiles[i]->profile.segment_state, &d.states[i]);
		if (distrust)
			d.states[i].known = 0;
		/* too many attributes are an error of the profile, and not of a predicate */
		if (work->set->reads_attributes && attributes->changed)
		{
			attributes->stored = ps_attributes_jsonb(&profiles[i]->profile);
			attributes->changed = false;
		}
	}
	read_members(&d, distrust);
	ps_live_evaluate(work->run, profiles, n, work->as_of, holds, due_at);
	for (int i = 0; i < n; i++)
		decide_profile(&d, i, &holds[i * work->set->nsegments], due_at[i], events == NULL ? NULL : events[i]);
}

/* Those who have no profile leave all live segments. */
static void
leave_all(PsLiveWork *work, PsStoredProfile **gone, int n)
{
	Decision	d = {work, gone, n, palloc0(Max(n, 1) * sizeof(PsSegmentState))};

	if (n == 0)
		return;
	read_members(&d, true);
	for (int i = 0; i < n; i++)
		for (int s = 0; s < work->set->nsegments; s++)
			if (d.is_member[i * work->set->nsegments + s])
				live_add_move(work, gone[i]->customer_id, &work->set->segments[s], false, NULL);
}

/* Visits a group of customers whose profiles are in memory at once. */
static void
visit_group(PsLiveWork *work, PsProfileTable * table, PsStoredProfile *stored, int n, const PsEvent *const *events, bool *visited)
{
	PsStoredProfile **all = palloc(n * sizeof(PsStoredProfile *));
	PsStoredProfile **present = palloc(n * sizeof(PsStoredProfile *));
	PsStoredProfile **gone = palloc(n * sizeof(PsStoredProfile *));
	const PsEvent **causes = palloc0(n * sizeof(PsEvent *));
	const bytea **before = palloc(n * sizeof(bytea *));
	int			npresent = 0;
	int			ngone = 0;
	int			nchanged = 0;

	for (int i = 0; i < n; i++)
		all[i] = &stored[i];
	ps_profiles_load(table, all, n);
	for (int i = 0; i < n; i++)
	{
		if (visited != NULL)
			visited[i] = stored[i].holder == 0;
		if (stored[i].holder != 0)
			continue;
		if (stored[i].profile.is_new)
		{
			gone[ngone++] = &stored[i];
			continue;
		}
		before[npresent] = stored[i].profile.segment_state;
		causes[npresent] = events == NULL ? NULL : events[i];
		present[npresent++] = &stored[i];
	}
	ps_live_decide(work, present, npresent, causes, true);
	leave_all(work, gone, ngone);
	for (int i = 0; i < npresent; i++)
		if (present[i]->profile.segment_state != before[i])
			present[nchanged++] = present[i];
	ps_profiles_save(table, present, nchanged);
}

void
ps_live_visit(PsLiveWork *work, const char *const *customer_ids, int n, const PsEvent *const *events, bool *visited)
{
	PsProfileTable *table;
	int			group;

	if (n == 0)
		return;
	/* a new snapshot: it must show what this transaction wrote, and others before we had the locks */
	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	table = ps_profiles_open();
	for (int done = 0; done < n; done += group)
	{
		PsStoredProfile *stored;

		group = Min(ps_profiles_at_once(table), n - done);
		stored = palloc0(group * sizeof(PsStoredProfile));
		for (int i = 0; i < group; i++)
		{
			stored[i].customer_id = customer_ids[done + i];
			stored[i].customer_id_len = strlen(stored[i].customer_id);
			stored[i].hash = (uint32) ps_lock_key(stored[i].customer_id, stored[i].customer_id_len);
		}
		visit_group(work, table, stored, group, events == NULL ? NULL : events + done, visited == NULL ? NULL : visited + done);
	}
	ps_profiles_close(table);
	PopActiveSnapshot();
}

void
ps_live_tell_sinks(const PsLiveWork *work)
{
	PsChange   *changes = palloc0(Max(work->nmoves, 1) * sizeof(PsChange));
	int			n = 0;

	/* the moves of one customer follow each other */
	for (int i = 0; i < work->nmoves; i++)
		if (i == 0 || strcmp(work->moves[i].customer_id, work->moves[i - 1].customer_id) != 0)
			changes[n++].customer_id = work->moves[i].customer_id;
	if (n > 0)
		ps_outbox_add_changes(changes, n, ps_watches_get());
}

static void
notify_moves(const PsLiveWork *work)
{
	const char *channel;

	if (ps_notify_queue_full(ps_notify_queue_limit))
		return;
	channel = ps_secret_name(PS_SEGMENTS_CHANNEL);
	for (int i = 0; i < work->nmoves; i++)
	{
		const PsLiveMove *move = &work->moves[i];
		PsSegmentChange change = {
			move->customer_id, move->enters ? NULL : move->segment, move->enters ? move->segment : NULL, move->event
		};

		if (!move->is_quiet)
			ps_notify(channel, ps_notify_segment_payload(&change, "rule", work->as_of));
	}
}

int
ps_live_write(PsLiveWork *work, bool notify)
{
	if (work == NULL)
		return 0;
	ps_live_moves_write(work->moves, work->nmoves, work->as_of);
	PS_FAILPOINT("after_segments");
	ps_live_checks_remove(work->removed.checks, work->removed.n);
	ps_live_checks_add(work->added.checks, work->added.n);
	if (notify && work->nmoves > 0)
		notify_moves(work);
	return work->nmoves;
}
