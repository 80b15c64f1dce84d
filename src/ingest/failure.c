/*
 * failure.c
 *	  What a worker cannot do at the moment. A stream counts as well again once the
 *	  very thing that failed has succeeded; other successes do not count.
 *
 *	  suspect	a partition whose messages could not be applied. While there are
 *				suspects, a transaction takes messages of one partition only, so
 *				that the next failure tells which partition it was. That partition
 *				waits alone, longer each time, and the others are read on.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "ingest/failure.h"
#include "ingest/life.h"
#include "ingest/partition.h"
#include "ingest/topics.h"
#include "process/backoff.h"
#include "utils/memutils.h"

#define MAX_LOCK_MS 4000		/* after a wait for a lock: a new try costs little */
#define OTHERS_MS 100			/* until the other partitions are read on */

typedef struct Suspect
{
	int32		topic_no;
	int32		partition;
	int64		offset;			/* of the first message that could not be applied */
	int			failures;		/* in a row, of this partition alone */
	PsMoment	next_attempt;	/* PS_MOMENT_PAST: the partition is read */
} Suspect;

static Suspect *
failure_find(List *suspects, int32 topic_no, int32 partition)
{
	ListCell   *cell;

	foreach(cell, suspects)
	{
		Suspect    *suspect = lfirst(cell);

		if (suspect->topic_no == topic_no && suspect->partition == partition)
			return suspect;
	}
	return NULL;
}

/* Adds a partition, or finds it. */
static Suspect *
failure_add(List **suspects, const PsPosition *first)
{
	Suspect    *suspect = failure_find(*suspects, first->topic_no, first->partition);

	if (suspect == NULL)
	{
		suspect = palloc0(sizeof(Suspect));
		suspect->topic_no = first->topic_no;
		suspect->partition = first->partition;
		suspect->offset = first->offset;
		suspect->next_attempt = PS_MOMENT_PAST;
		*suspects = lappend(*suspects, suspect);
	}
	suspect->offset = Min(suspect->offset, first->offset);
	return suspect;
}

void
ps_failure_note(PsWorker *worker, const PsApplyItem *items, int n)
{
	MemoryContext old = MemoryContextSwitchTo(worker->context);

	for (int i = 0; i < n; i++)
	{
		PsPosition	position = {items[i].message.topic_no, items[i].message.partition, items[i].message.offset};

		(void) failure_add(&worker->failure.failed, &position);
	}
	MemoryContextSwitchTo(old);
}

void
ps_failure_forget_range(PsWorker *worker)
{
	list_free_deep(worker->failure.failed);
	worker->failure.failed = NIL;
}

int64
ps_failure_begin(PsWorker *worker, PsFault fault, int64 *next_attempt_ms)
{
	bool		alone = list_length(worker->failure.failed) == 1;
	MemoryContext old;
	ListCell   *cell;

	worker->failure.failing |= worker->failure.doing;
	if (fault != PS_FAULT_RANGE)
	{
		ps_failure_forget_range(worker);
		return *next_attempt_ms = fault == PS_FAULT_SIZE ? OTHERS_MS : Min(MAX_LOCK_MS, ps_backoff_ms(worker->failure.in_a_row++));
	}
	old = MemoryContextSwitchTo(worker->context);
	*next_attempt_ms = ps_backoff_ms(worker->failure.failed == NIL ? worker->failure.in_a_row++ : 0);
	foreach(cell, worker->failure.failed)
	{
		Suspect    *failed = lfirst(cell);
		PsPosition	position = {failed->topic_no, failed->partition, failed->offset};
		Suspect    *suspect = failure_add(&worker->failure.suspects, &position);

		if (!alone)
			continue;
		*next_attempt_ms = ps_backoff_ms(suspect->failures++);
		suspect->next_attempt = ps_moment_plus(ps_clock_now(), *next_attempt_ms);
	}
	ps_failure_forget_range(worker);
	MemoryContextSwitchTo(old);
	return alone ? OTHERS_MS : *next_attempt_ms;
}

void
ps_failure_over(PsWorker *worker, int doing)
{
	worker->failure.failing &= ~doing;
	if (worker->failure.failing == 0)
		worker->failure.in_a_row = 0;
}

static void
failure_forget(PsWorker *worker, Suspect *suspect)
{
	worker->failure.suspects = list_delete_ptr(worker->failure.suspects, suspect);
	pfree(suspect);
}

void
ps_failure_applied(PsWorker *worker, const PsApplyItem *items, int n)
{
	for (int i = 0; i < n && worker->failure.suspects != NIL; i++)
	{
		Suspect    *suspect = failure_find(worker->failure.suspects, items[i].message.topic_no, items[i].message.partition);

		if (suspect != NULL && items[i].message.offset >= suspect->offset)
			failure_forget(worker, suspect);
	}
	if (worker->failure.suspects == NIL)
		ps_failure_over(worker, PS_DOING_BATCH);
}

void
ps_failure_turn(PsWorker *worker)
{
	PsMoment	now = ps_clock_now();
	List	   *suspects = list_copy(worker->failure.suspects);
	ListCell   *cell;

	if (suspects == NIL)
		return;
	foreach(cell, suspects)
	{
		Suspect    *suspect = lfirst(cell);
		PsPartition *partition = ps_partition_find(worker, suspect->topic_no, suspect->partition);

		/*
		 * another worker has the partition now, the stream left its topic, or a session moved its offset past the
		 * message
		 */
		if (suspect->partition >= worker->balance.nleases || !worker->balance.leases[suspect->partition].held ||
			ps_topics_find(worker, suspect->topic_no) == NULL ||
			(partition != NULL && partition->stored_offset > suspect->offset))
			failure_forget(worker, suspect);
		else if (suspect->next_attempt != PS_MOMENT_PAST && suspect->next_attempt <= now)
		{
			suspect->next_attempt = PS_MOMENT_PAST;
			ps_life_look_up(worker);
			worker->looking_up.next = 0;
		}
	}
	if (worker->failure.suspects == NIL)
		ps_failure_over(worker, PS_DOING_BATCH);
}

bool
ps_failure_waits(const PsWorker *worker, int32 partition)
{
	ListCell   *cell;

	foreach(cell, worker->failure.suspects)
	{
		const Suspect *suspect = lfirst(cell);

		if (suspect->partition == partition && suspect->next_attempt != PS_MOMENT_PAST)
			return true;
	}
	return false;
}

int
ps_failure_prefix(const PsWorker *worker, const PsApplyItem *items, int n)
{
	int			taken = Min(n, 1);

	if (worker->failure.suspects == NIL)
		return n;
	while (taken < n && items[taken].message.partition == items[0].message.partition &&
		   items[taken].message.topic_no == items[0].message.topic_no)
		taken++;
	return taken;
}
