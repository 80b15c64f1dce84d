/*
 * batch.c
 *	  Applies what was drained, a transaction at a time. A transaction that fails
 *	  for what an event holds is halved until that event is alone, and becomes a
 *	  dead letter; any other failure is left to the worker, which reads again from
 *	  the stored offset.
 */
#include "postgres.h"

#include "access/xact.h"
#include "ingest/worker.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "store/lock.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define REPORT_INTERVAL_MS 5000
#define CONTEXT_PARTITIONS 8	/* named in an error's context */

/* What a transaction applies, for the context of its errors. */
typedef struct Range
{
	const PsWorker *worker;
	const PsEntry *entries;
	int			n;
} Range;

/* Only these classes speak of data: a full disk or a lost right must not reach the dead letters. */
static bool
is_data_error(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case MAKE_SQLSTATE('2', '2', '0', '0', '0'):	/* data exception */
		case MAKE_SQLSTATE('2', '3', '0', '0', '0'):	/* integrity constraint violation */
		case MAKE_SQLSTATE('3', '8', '0', '0', '0'):	/* external routine exception */
		case MAKE_SQLSTATE('4', '4', '0', '0', '0'):	/* with check option violation */
		case MAKE_SQLSTATE('5', '4', '0', '0', '0'):	/* program limit exceeded */
		case MAKE_SQLSTATE('P', '0', '0', '0', '0'):	/* raised by PL/pgSQL */
			return true;
		default:
			return false;
	}
}

static PsApplySettings
apply_settings(const PsStream *stream)
{
	PsApplySettings settings = {
		.stream_id = stream->stream_id,
		.stream = stream->name,
		.topic = stream->topic,
		.now = GetCurrentTimestamp(),
		.max_clock_skew_us = ps_max_clock_skew_ms * INT64CONST(1000),
		.max_event_bytes = ps_max_event_bytes,
		.dedupe_retention_us = stream->dedupe_retention_us,
		.notify_channel = stream->notify_channel
	};

	settings.notify = strcmp(stream->notify, "customer") == 0 ? PS_NOTIFY_CUSTOMER :
		strcmp(stream->notify, "batch") == 0 ? PS_NOTIFY_BATCH : PS_NOTIFY_OFF;
	return settings;
}

/* The moves of a range: each partition's next offset and counts. */
static int
collect_moves(PsWorker *worker, const PsEntry *entries, int n, List *ends, PsOffsetMove *moves)
{
	int			nmoves = 0;
	ListCell   *cell;

	for (int i = 0; i < worker->npartitions; i++)
	{
		PsPartition *partition = &worker->partitions[i];

		memset(&moves[i], 0, sizeof(PsOffsetMove));
		moves[i].partition = partition->partition;
		moves[i].epoch = partition->epoch;
		moves[i].expected_offset = moves[i].next_offset = partition->next_offset;
		moves[i].last_message_at = DT_NOBEGIN;
	}
	for (int e = 0; e < n; e++)
	{
		const PsMessage *message = &entries[e].message;
		PsOffsetMove *move = &moves[ps_assignment_find(worker, message->partition) - worker->partitions];

		if (message->offset < move->next_offset)
			continue;
		move->next_offset = message->offset + 1;
		move->last_message_at = message->kafka_timestamp;
		ps_apply_count(&move->counts, entries[e].outcome);
	}
	foreach(cell, ends)
	{
		PsPosition *end = lfirst(cell);
		PsPartition *partition = ps_assignment_find(worker, end->partition);

		if (partition != NULL)
			moves[partition - worker->partitions].next_offset =
				Max(moves[partition - worker->partitions].next_offset, end->offset);
	}
	for (int i = 0; i < worker->npartitions; i++)
	{
		if (moves[i].next_offset == moves[i].expected_offset)
			continue;
		moves[i].end_offset = ps_consumer_end_offset(worker->consumer, moves[i].partition);
		moves[nmoves++] = moves[i];
	}
	return nmoves;
}

/* Says which of a partition's offsets a range holds; whether it holds any. */
static bool
find_offsets(const Range *range, int32 partition, int64 *first, int64 *last)
{
	*first = -1;
	for (int i = 0; i < range->n; i++)
	{
		if (range->entries[i].message.partition != partition)
			continue;
		*last = range->entries[i].message.offset;
		if (*first < 0)
			*first = *last;
	}
	return *first >= 0;
}

/* Error context callback: where in the topic the trouble is, and whose event it was when it is alone. */
static void
describe_range(void *arg)
{
	const Range *range = arg;
	const PsWorker *worker = range->worker;
	const PsEvent *event = range->n == 1 ? range->entries[0].event : NULL;
	StringInfoData where;
	int			named = 0;
	int64		first;
	int64		last;

	initStringInfo(&where);
	for (int i = 0; i < worker->npartitions; i++)
	{
		if (!find_offsets(range, worker->partitions[i].partition, &first, &last))
			continue;
		if (named++ == CONTEXT_PARTITIONS)
		{
			appendStringInfoString(&where, ", and more");
			break;
		}
		appendStringInfo(&where, "%s partition %d offset " INT64_FORMAT " to " INT64_FORMAT,
						 named == 1 ? "" : ",", worker->partitions[i].partition, first, last);
	}
	if (event != NULL)
		errcontext("applying topic \"%s\"%s of stream \"%s\": event \"%s\" of customer \"%s\"",
				   worker->stream->topic, where.data, worker->stream->name, event->event_id, event->customer_id);
	else
		errcontext("applying topic \"%s\"%s of stream \"%s\"", worker->stream->topic, where.data, worker->stream->name);
	pfree(where.data);
}

/* One transaction. */
static void
apply_transaction(PsWorker *worker, PsEntry *entries, int n, List *ends, PsApplySettings *settings)
{
	PsOffsetMove *moves = MemoryContextAlloc(worker->batch_context,
											 Max(worker->npartitions, 1) * sizeof(PsOffsetMove));
	Range		range = {worker, entries, n};
	ErrorContextCallback callback = {error_context_stack, describe_range, &range};
	int			nmoves;

	error_context_stack = &callback;	/* an error takes it off where it is caught */
	StartTransactionCommand();
	SetCurrentStatementStartTimestamp();
	ps_lock_tables();
	MemoryContextReset(worker->apply_context);
	MemoryContextSwitchTo(worker->apply_context);
	if (n > 0)
		ps_apply_entries(entries, n, settings);
	nmoves = collect_moves(worker, entries, n, ends, moves);
	ps_apply_offsets(settings, moves, nmoves);
	PS_FAILPOINT("before_commit");
	CommitTransactionCommand();
	error_context_stack = callback.previous;
	for (int i = 0; i < nmoves; i++)
		ps_assignment_find(worker, moves[i].partition)->next_offset = moves[i].next_offset;
	PS_FAILPOINT("after_commit");
}

/* Applies a range; halves it when an event in it cannot be applied. */
static void
apply_range(PsWorker *worker, PsEntry *entries, int n, List *ends, PsApplySettings *settings)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	check_stack_depth();
	PG_TRY();
	{
		apply_transaction(worker, entries, n, ends, settings);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(worker->batch_context);
		error = CopyErrorData();
		if (!is_data_error(error->sqlerrcode) || n == 0 || (n == 1 && (entries[0].event == NULL || entries[0].refusal != NULL)))
			PG_RE_THROW();
		FlushErrorState();
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	if (error == NULL)
		return;

	if (n == 1)
	{
		entries[0].refusal = ps_reject_make("handler", psprintf("Processing error: %s", error->message));
		entries[0].refusal->sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode));
		apply_range(worker, entries, 1, ends, settings);
		return;
	}
	apply_range(worker, entries, n / 2, NIL, settings);
	apply_range(worker, entries + n / 2, n - n / 2, ends, settings);
}

/* Messages of partitions that are not ours any more, or that were read before, are left out. */
static int
make_entries(PsWorker *worker, PsIntake *intake, PsEntry *entries)
{
	int			n = 0;

	for (int i = 0; i < intake->n; i++)
	{
		PsPartition *partition = ps_assignment_find(worker, intake->messages[i].partition);

		if (partition == NULL || intake->messages[i].offset < partition->next_offset)
			continue;
		memset(&entries[n], 0, sizeof(PsEntry));
		entries[n].message = intake->messages[i];
		entries[n++].message.epoch = partition->epoch;
	}
	return n;
}

/* Tells the group's offsets to Kafka's tools, now and then. */
static void
report_offsets(PsWorker *worker)
{
	TimestampTz now = GetCurrentTimestamp();
	PsPosition *positions;

	if (now < worker->next_report || worker->npartitions == 0)
		return;
	positions = palloc(worker->npartitions * sizeof(PsPosition));
	for (int i = 0; i < worker->npartitions; i++)
	{
		positions[i].partition = worker->partitions[i].partition;
		positions[i].offset = worker->partitions[i].next_offset;
	}
	ps_consumer_report(worker->consumer, positions, worker->npartitions);
	worker->next_report = TimestampTzPlusMilliseconds(now, REPORT_INTERVAL_MS);
}

void
ps_batch_apply(PsWorker *worker, PsIntake *intake)
{
	PsApplySettings settings = apply_settings(worker->stream);
	PsEntry    *entries = palloc_extended(Max(intake->n, 1) * sizeof(PsEntry), MCXT_ALLOC_HUGE);
	int			n = make_entries(worker, intake, entries);

	PS_FAILPOINT("after_fetch");
	ps_apply_decode(entries, n, &settings);
	PS_FAILPOINT("after_decode");
	do
	{
		int			taken;
		char		activity[128];

		CHECK_FOR_INTERRUPTS();
		taken = ps_apply_cut(entries, n, worker->max_customers);
		if (taken > 0)
		{
			snprintf(activity, sizeof(activity), "apply %s[%d] @ " INT64_FORMAT, worker->stream->topic,
					 entries[0].message.partition, entries[0].message.offset);
			pgstat_report_activity(STATE_RUNNING, activity);
		}
		apply_range(worker, entries, taken, taken == n ? intake->ends : NIL, &settings);
		entries += taken;
		n -= taken;
	} while (n > 0);
	report_offsets(worker);
}
