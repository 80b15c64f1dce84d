/*
 * align.c
 *	  Reads the topics of a stream side by side. What piled up in two topics comes from
 *	  Kafka in any order: a year of the one before the first day of the other. So the
 *	  messages of a group are given out in the order of their Kafka timestamps. In that
 *	  order they would have come live. reorder_wait then puts the events in order.
 *
 *	  group		the partitions of one number, of all topics: one customer's events
 *	  silent	a partition from which nothing was read, although it is not at its end.
 *				Its group waits for it, but not longer than a bound of time.
 *
 *	  When several streams are rebuilt, each by a process of its own, none of them runs
 *	  ahead of the others.
 *
 *	  Messages that wait here do not count as read. When they take too much memory, only
 *	  partitions of which none waits are fetched, until most of it is given out.
 */
#include "postgres.h"

#include <limits.h>

#include "ingest/align.h"
#include "ingest/partition.h"
#include "ingest/report.h"
#include "lib/ilist.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MAX_BYTES (32 * 1024 * 1024)
#define PATIENCE_US (1 * USECS_PER_SEC)
#define APART_US (1 * USECS_PER_SEC)
#define HELD_BACK_MS 2			/* until the next look at the other streams */

typedef struct AlignedMessage
{
	dlist_node	in_queue;
	Size		bytes;
	PsMessage	message;
} AlignedMessage;

typedef struct AlignedPartition
{
	PsPosition	next;			/* to be read */
	dlist_head	queue;
	TimestampTz newest;			/* Kafka timestamp that was given out last; DT_NOBEGIN: none */
	PsMoment	empty_since;	/* while the queue is empty */
	int64		end;			/* its end, as Kafka said after the last message; -1: it did not */
	bool		told;			/* the end was given out */
} AlignedPartition;

struct PsAlign
{
	MemoryContext context;
	AlignedPartition *partitions;	/* in the order of worker->reading.partitions */
	int		   *order;			/* their places, by number: those of a group come together */
	int			n;
	int			turn;			/* place in order with whose group the next call begins */
	int64		bytes;
	bool		narrowed;		/* some partitions are not fetched */
	TimestampTz bound;			/* of what may be given out, because of other streams that are rebuilt */
	bool		held_back;		/* messages wait for such streams */
	dlist_head	given;			/* messages of the last call */
};

void
ps_align_reset(PsWorker *worker)
{
	if (worker->align == NULL)
		return;
	MemoryContextDelete(worker->align->context);
	worker->align = NULL;
}

/* Sorts places by the number of their partition. */
static int
compare_aligned(const void *a, const void *b, void *arg)
{
	const AlignedPartition *partitions = arg;
	const PsPosition *x = &partitions[*(const int *) a].next;
	const PsPosition *y = &partitions[*(const int *) b].next;

	if (x->partition != y->partition)
		return x->partition < y->partition ? -1 : 1;
	return x->topic_no < y->topic_no ? -1 : x->topic_no > y->topic_no;
}

void
ps_align_begin(PsWorker *worker, const PsPosition *positions)
{
	MemoryContext context;
	PsAlign    *align;

	ps_align_reset(worker);
	if ((worker->ntopics < 2 && worker->rebuilt_beside == NIL) || worker->reading.npartitions == 0)
		return;
	context = AllocSetContextCreate(worker->context, "profile_stream align", ALLOCSET_DEFAULT_SIZES);
	align = MemoryContextAllocZero(context, sizeof(PsAlign));
	align->context = context;
	align->n = worker->reading.npartitions;
	align->partitions = MemoryContextAllocZero(context, align->n * sizeof(AlignedPartition));
	align->order = MemoryContextAlloc(context, align->n * sizeof(int));
	dlist_init(&align->given);
	for (int i = 0; i < align->n; i++)
	{
		AlignedPartition *partition = &align->partitions[i];

		partition->next = positions[i];
		partition->newest = DT_NOBEGIN;
		partition->empty_since = ps_clock_now();
		partition->end = -1;
		dlist_init(&partition->queue);
		align->order[i] = i;
	}
	qsort_arg(align->order, align->n, sizeof(int), compare_aligned, align->partitions);
	worker->align = align;
}

/* The partition of a position, NULL when it is not assigned any more. */
static AlignedPartition *
align_find(PsWorker *worker, int32 topic_no, int32 partition)
{
	PsPartition *found = ps_partition_find(worker, topic_no, partition);

	return found != NULL ? &worker->align->partitions[found - worker->reading.partitions] : NULL;
}

/* Keeps a message, unless it was kept before. */
static void
align_keep(PsWorker *worker, const PsMessage *message)
{
	PsAlign    *align = worker->align;
	AlignedPartition *partition = align_find(worker, message->topic_no, message->partition);
	Size		at = MAXALIGN(sizeof(AlignedMessage));
	AlignedMessage *kept;

	if (partition == NULL || message->offset < partition->next.offset)
		return;
	kept = MemoryContextAllocExtended(align->context, at + ps_message_space(message), MCXT_ALLOC_HUGE);
	ps_message_copy(&kept->message, (char *) kept + at, message);
	kept->bytes = GetMemoryChunkSpace(kept);
	align->bytes += kept->bytes;
	dlist_push_tail(&partition->queue, &kept->in_queue);
	partition->next.offset = message->offset + 1;
	partition->end = -1;
}

/* Keeps what was read. */
static void
keep_intake(PsWorker *worker, const PsIntake *intake)
{
	ListCell   *cell;

	for (int i = 0; i < intake->n; i++)
		align_keep(worker, &intake->messages[i]);
	foreach(cell, intake->ends)
	{
		const PsPosition *end = lfirst(cell);
		AlignedPartition *partition = align_find(worker, end->topic_no, end->partition);

		if (partition == NULL || end->offset < partition->next.offset)
			continue;
		partition->next.offset = partition->end = end->offset;
		partition->told = false;
	}
}

/* Whether the partition's group has to wait for it: nothing was read of it, and it is not at its end. */
static bool
is_silent(const PsWorker *worker, const AlignedPartition *partition, PsMoment now)
{
	const PsPosition *next = &partition->next;
	int64		end;

	if (partition->end >= 0 || now - partition->empty_since > Max(PATIENCE_US, worker->stream->reorder_wait_us))
		return false;
	end = ps_consumer_end_offset(worker->consumer, next->topic_no, next->partition);
	return end < 0 || next->offset < end;
}

static TimestampTz
first_timestamp(AlignedPartition *partition)
{
	return dlist_head_element(AlignedMessage, in_queue, &partition->queue)->message.kafka_timestamp;
}

/* The partition of a group whose first message comes next; NULL: none may be given out now. */
static AlignedPartition *
choose_next(PsWorker *worker, const int *group, int n, PsMoment now)
{
	AlignedPartition *chosen = NULL;
	TimestampTz bound = worker->align->bound;

	for (int i = 0; i < n; i++)
	{
		AlignedPartition *partition = &worker->align->partitions[group[i]];

		if (dlist_is_empty(&partition->queue))
		{
			/* what comes of it is not older than what came before */
			if (n > 1 && is_silent(worker, partition, now))
				bound = Min(bound, partition->newest);
		}
		else if (chosen == NULL || first_timestamp(partition) < first_timestamp(chosen))
			chosen = partition;
	}
	if (chosen != NULL && first_timestamp(chosen) > worker->align->bound)
		worker->align->held_back = true;
	return chosen != NULL && first_timestamp(chosen) <= bound ? chosen : NULL;
}

/* Gives out the first message of a partition. */
static void
give_first(PsAlign *align, AlignedPartition *partition, PsIntake *intake, PsMoment now)
{
	AlignedMessage *kept = dlist_container(AlignedMessage, in_queue, dlist_pop_head_node(&partition->queue));

	dlist_push_tail(&align->given, &kept->in_queue);
	align->bytes -= kept->bytes;
	partition->newest = Max(partition->newest, kept->message.kafka_timestamp);
	if (dlist_is_empty(&partition->queue))
		partition->empty_since = now;
	intake->messages[intake->n++] = kept->message;
}

/* How many partitions the group has that begins at a place of the order. */
static int
group_size(const PsAlign *align, int first)
{
	int			n = 1;

	while (first + n < align->n &&
		   align->partitions[align->order[first + n]].next.partition == align->partitions[align->order[first]].next.partition)
		n++;
	return n;
}

/* Gives out messages of each group, up to max. True: more may be given out. */
static bool
give_groups(PsWorker *worker, PsIntake *intake, int max)
{
	PsAlign    *align = worker->align;
	PsMoment	now = ps_clock_now();
	int			left = align->n;

	if (align->turn >= align->n)
		align->turn = 0;
	while (left > 0)
	{
		const int  *group = &align->order[align->turn];
		int			n = group_size(align, align->turn);
		AlignedPartition *partition;

		while (intake->n < max && (partition = choose_next(worker, group, n, now)) != NULL)
			give_first(align, partition, intake, now);
		if (intake->n >= max)
			return true;		/* the next call begins with this group */
		left -= n;
		align->turn = (align->turn + n) % align->n;
	}
	return false;
}

/* Gives out the ends of partitions of which no message waits. */
static void
give_ends(PsAlign *align, PsIntake *intake)
{
	for (int i = 0; i < align->n; i++)
	{
		AlignedPartition *partition = &align->partitions[i];
		PsPosition *end;

		if (partition->end < 0 || partition->told || !dlist_is_empty(&partition->queue))
			continue;
		partition->told = true;
		end = palloc(sizeof(PsPosition));
		*end = partition->next;
		end->offset = partition->end;
		intake->ends = lappend(intake->ends, end);
	}
}

/* Fetches all partitions, or only those of which no message waits. */
static void
choose_fetched(PsWorker *worker, bool narrowed)
{
	PsAlign    *align = worker->align;
	PsPosition *positions = palloc(align->n * sizeof(PsPosition));
	int			n = 0;

	for (int i = 0; i < align->n; i++)
		if (!narrowed || dlist_is_empty(&align->partitions[i].queue))
			positions[n++] = align->partitions[i].next;
	if (n == 0 || narrowed == align->narrowed)
		return;
	align->narrowed = narrowed;
	ps_consumer_assign(worker->consumer, positions, n);
	ereport(DEBUG1, (errmsg_internal("stream \"%s\" fetches %d of %d partitions, " INT64_FORMAT " bytes wait for others",
									 worker->stream->name, n, align->n, align->bytes)));
}

/* The Kafka timestamp of the first message that is not given out; DT_NOEND: there is none. */
static TimestampTz
first_pending(const PsWorker *worker, PsMoment now)
{
	TimestampTz first = DT_NOEND;

	for (int i = 0; i < worker->align->n; i++)
	{
		AlignedPartition *partition = &worker->align->partitions[i];

		if (!dlist_is_empty(&partition->queue))
			first = Min(first, first_timestamp(partition));
		else if (is_silent(worker, partition, now))
			first = Min(first, partition->newest);
	}
	return first;
}

/*
 * Streams that are rebuilt at the same time go on together, up to a second of Kafka's
 * time: live they are not closer to each other either. Messages that
 * the last call gave out are applied by now. So only those after them hold the others
 * back.
 */
static void
go_with_others(PsWorker *worker)
{
	TimestampTz others;

	worker->align->held_back = false;
	worker->align->bound = DT_NOEND;
	if (worker->rebuilt_beside == NIL)
		return;
	ps_report_pending(first_pending(worker, ps_clock_now()));
	others = ps_report_pending_beside(worker);
	worker->align->bound = TIMESTAMP_NOT_FINITE(others) ? others : others + APART_US;
}

long
ps_align_wait_ms(const PsWorker *worker)
{
	return worker->align != NULL && worker->align->held_back ? HELD_BACK_MS : LONG_MAX;
}

/* Frees the messages that the last call gave out. */
static void
free_given(PsAlign *align)
{
	while (!dlist_is_empty(&align->given))
		pfree(dlist_container(AlignedMessage, in_queue, dlist_pop_head_node(&align->given)));
}

bool
ps_align(PsWorker *worker, PsIntake *intake)
{
	PsAlign    *align = worker->align;
	int			max = worker->stream->batch_size;
	bool		more;

	if (align == NULL)
		return false;
	free_given(align);
	keep_intake(worker, intake);
	go_with_others(worker);
	intake->n = 0;
	intake->ends = NIL;
	intake->messages = palloc_extended(max * sizeof(PsMessage), MCXT_ALLOC_HUGE);
	intake->capacity = max;
	more = give_groups(worker, intake, max);
	if (!more)
		give_ends(align, intake);
	choose_fetched(worker, align->narrowed ? align->bytes > MAX_BYTES / 4 : align->bytes > MAX_BYTES);
	return more;
}
