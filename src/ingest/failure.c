/*
 * failure.c
 *	  What a worker cannot do at the moment, and until when that counts: a stream
 *	  is well again once the very thing that failed has succeeded, whatever else
 *	  does meanwhile.
 *
 *	  suspect	a partition of which a range could not be applied. While there is
 *				one, a transaction takes messages of one partition only, so that
 *				the next failure tells which it is. That one waits by itself, longer
 *				each time, and the others are read on.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "ingest/worker.h"
#include "utils/memutils.h"

#define MAX_LOCK_MS 4000		/* after a wait for a lock, which asks nobody for anything */
#define OTHERS_MS 100			/* before what did not fail is read on */

typedef struct Suspect
{
	int32		partition;
	int64		offset;			/* the first that could not be applied */
	int			failures;		/* in a row, of this partition alone */
	PsMoment	next_attempt;	/* PS_MOMENT_PAST: it is read */
} Suspect;

static Suspect *
failure_find(List *suspects, int32 partition)
{
	ListCell   *cell;

	foreach(cell, suspects)
	{
		if (((Suspect *) lfirst(cell))->partition == partition)
			return lfirst(cell);
	}
	return NULL;
}

/* Adds a partition, or finds it. */
static Suspect *
failure_add(List **suspects, int32 partition, int64 offset)
{
	Suspect    *suspect = failure_find(*suspects, partition);

	if (suspect == NULL)
	{
		suspect = palloc0(sizeof(Suspect));
		suspect->partition = partition;
		suspect->offset = offset;
		suspect->next_attempt = PS_MOMENT_PAST;
		*suspects = lappend(*suspects, suspect);
	}
	suspect->offset = Min(suspect->offset, offset);
	return suspect;
}

void
ps_failure_note(PsWorker *worker, const PsApplyItem *items, int n)
{
	MemoryContext old = MemoryContextSwitchTo(worker->context);

	for (int i = 0; i < n; i++)
		(void) failure_add(&worker->failed, items[i].message.partition, items[i].message.offset);
	MemoryContextSwitchTo(old);
}

int64
ps_failure_begin(PsWorker *worker, PsFault fault, int64 *next_attempt_ms)
{
	bool		alone = list_length(worker->failed) == 1;
	MemoryContext old;
	ListCell   *cell;

	worker->failing |= worker->doing;
	worker->reassign = true;
	if (fault != PS_FAULT_RANGE)
	{
		list_free_deep(worker->failed);
		worker->failed = NIL;
		return *next_attempt_ms = fault == PS_FAULT_SIZE ? OTHERS_MS : Min(MAX_LOCK_MS, ps_backoff_ms(worker->failures++));
	}
	old = MemoryContextSwitchTo(worker->context);
	*next_attempt_ms = ps_backoff_ms(worker->failed == NIL ? worker->failures++ : 0);
	foreach(cell, worker->failed)
	{
		Suspect    *failed = lfirst(cell);
		Suspect    *suspect = failure_add(&worker->suspects, failed->partition, failed->offset);

		if (!alone)
			continue;
		*next_attempt_ms = ps_backoff_ms(suspect->failures++);
		suspect->next_attempt = ps_moment_plus(ps_clock_now(), *next_attempt_ms);
	}
	list_free_deep(worker->failed);
	worker->failed = NIL;
	MemoryContextSwitchTo(old);
	return alone ? OTHERS_MS : *next_attempt_ms;
}

/* Says that one thing works again. */
void
ps_failure_over(PsWorker *worker, int doing)
{
	worker->failing &= ~doing;
	if (worker->failing == 0)
		worker->failures = 0;
}

static void
failure_forget(PsWorker *worker, Suspect *suspect)
{
	worker->suspects = list_delete_ptr(worker->suspects, suspect);
	pfree(suspect);
}

void
ps_failure_applied(PsWorker *worker, const PsApplyItem *items, int n)
{
	for (int i = 0; i < n && worker->suspects != NIL; i++)
	{
		Suspect    *suspect = failure_find(worker->suspects, items[i].message.partition);

		if (suspect != NULL && items[i].message.offset >= suspect->offset)
			failure_forget(worker, suspect);
	}
	if (worker->suspects == NIL)
		ps_failure_over(worker, PS_DOING_BATCH);
}

void
ps_failure_turn(PsWorker *worker)
{
	PsMoment	now = ps_clock_now();
	List	   *suspects = list_copy(worker->suspects);
	ListCell   *cell;

	if (suspects == NIL)
		return;
	foreach(cell, suspects)
	{
		Suspect    *suspect = lfirst(cell);
		PsPartition *partition = ps_partition_find(worker, suspect->partition);

		/* another worker has it, or somebody went past it */
		if (suspect->partition >= worker->nleases || !worker->leases[suspect->partition].held ||
			(partition != NULL && partition->stored_offset > suspect->offset))
			failure_forget(worker, suspect);
		else if (suspect->next_attempt != PS_MOMENT_PAST && suspect->next_attempt <= now)
		{
			suspect->next_attempt = PS_MOMENT_PAST;
			worker->reassign = true;
			worker->next_lookup = 0;
		}
	}
	if (worker->suspects == NIL)
		ps_failure_over(worker, PS_DOING_BATCH);
}

bool
ps_failure_waits(const PsWorker *worker, int32 partition)
{
	Suspect    *suspect = failure_find(worker->suspects, partition);

	return suspect != NULL && suspect->next_attempt != PS_MOMENT_PAST;
}

int
ps_failure_prefix(const PsWorker *worker, const PsApplyItem *items, int n)
{
	int			taken = Min(n, 1);

	if (worker->suspects == NIL)
		return n;
	while (taken < n && items[taken].message.partition == items[0].message.partition)
		taken++;
	return taken;
}
