/*
 * batch.c
 *	  Applies what was drained, a transaction at a time. A transaction that fails
 *	  for what an event holds is halved until that event is alone, and becomes a
 *	  dead letter; any other failure is left to the worker, which reads again from
 *	  the stored offset.
 */
#include "postgres.h"

#include "access/xact.h"
#include "apply/notify.h"
#include "ingest/worker.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "settings.h"
#include "store/lock_wait.h"
#include "store/locks.h"
#include "store/owner.h"
#include "store/rule_catalog.h"
#include "store/sqlstate.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define REPORT_INTERVAL_MS 5000
#define PROGRESS_INTERVAL_MS 1000	/* of what is read and held, while nothing else moves offsets */
#define FLUSH_WAIT_MS 100		/* for a customer's lock, at a stop */
#define CONTEXT_PARTITIONS 8	/* named in an error's context */

/* What a transaction applies, for the context of its errors. */
typedef struct Range
{
	const PsWorker *worker;
	const PsApplyItem *items;
	int			n;
} Range;

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
		.format_map = stream->format_map,
		.time_unit = stream->time_unit,
		.event_id_scope = strcmp(stream->event_id_scope, "stream") == 0 ? stream->stream_id : 0,
		.dedupe_retention_us = stream->dedupe_retention_us,
		.late_tolerance_us = stream->late_tolerance_us,
		.customer_lock_timeout_ms = stream->customer_lock_timeout_ms,
		.notify_channel = stream->channel,
		.segment_channel_prefix = stream->segment_channel_prefix
	};

	settings.notify = strcmp(stream->notify, "customer") == 0 ? PS_NOTIFY_CUSTOMER :
		strcmp(stream->notify, "batch") == 0 ? PS_NOTIFY_BATCH : PS_NOTIFY_OFF;
	return settings;
}

/* Says which of a partition's offsets a range holds; whether it holds any. */
static bool
find_offsets(const Range *range, int32 partition, int64 *first, int64 *last)
{
	*first = PG_INT64_MAX;
	*last = -1;
	for (int i = 0; i < range->n; i++)
	{
		if (range->items[i].message.partition != partition)
			continue;
		*first = Min(*first, range->items[i].message.offset);
		*last = Max(*last, range->items[i].message.offset);
	}
	return *last >= 0;
}

/* Error context callback: where in the topic the trouble is, and whose event it was when it is alone. */
static void
describe_range(void *arg)
{
	const Range *range = arg;
	const PsWorker *worker = range->worker;
	const PsEvent *event = range->n == 1 ? range->items[0].event : NULL;
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
apply_transaction(PsWorker *worker, PsApplyItem *items, int n, PsApplySettings *settings)
{
	PsOffsetMove *moves = MemoryContextAlloc(worker->batch_context,
											 Max(worker->npartitions, 1) * sizeof(PsOffsetMove));
	Range		range = {worker, items, n};
	ErrorContextCallback callback = {error_context_stack, describe_range, &range};
	bool		reading = ps_clock_now() >= worker->next_progress;
	int			nmoves;

	error_context_stack = &callback;	/* an error takes it off where it is caught */
	ps_worker_begin(worker);
	SetCurrentStatementStartTimestamp();
	ps_check_may_run(GetUserId());
	ps_lock_tables();
	MemoryContextReset(worker->apply_context);
	MemoryContextSwitchTo(worker->apply_context);
	ps_deferred_mark(worker->aside, items, n);
	if (n > 0)
		ps_apply_items(items, n, settings);
	ps_progress_mark(worker, items, n, true);
	nmoves = ps_progress_moves(worker, items, n, reading, moves);
	ps_apply_offsets(settings, moves, nmoves);
	PS_FAILPOINT("before_commit");
	CommitTransactionCommand();
	error_context_stack = callback.previous;
	ps_lock_wait_over();
	ps_progress_committed(worker, moves, nmoves);
	if (worker->suspects != NIL)
		ps_failure_applied(worker, items, n);
	MemoryContextSwitchTo(worker->batch_context);
	ps_deferred_committed(worker->aside, worker->stream->name, items, n);
	if (n > 0)
		ps_lock_budget_succeeded(worker);
	if (reading)
		worker->next_progress = ps_moment_plus(ps_clock_now(), PROGRESS_INTERVAL_MS);
	PS_FAILPOINT("after_commit");
}

/* Applies a range; halves it when an event in it cannot be applied. */
static void
apply_range(PsWorker *worker, PsApplyItem *items, int n, PsApplySettings *settings)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;
	volatile bool overflowed = false;
	volatile bool kept = false;
	volatile int known_kept = ps_deferred_count_rows(items, n);

	check_stack_depth();
	PG_TRY();
	{
		apply_transaction(worker, items, n, settings);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(worker->batch_context);
		error = CopyErrorData();
		overflowed = ps_notify_overflowed(error);
		kept = ps_deferred_count_rows(items, n) > known_kept;
		/* notifications of triggers fail whatever we do about ours */
		if (!kept && (overflowed ? settings->notify_full : !ps_sqlstate_blames_message(error->sqlerrcode) || n == 0 ||
					  (n == 1 && (items[0].event == NULL || items[0].refusal != NULL))))
		{
			ps_failure_note(worker, items, n);
			PG_RE_THROW();
		}
		FlushErrorState();
		AbortCurrentTransaction();
		ps_progress_mark(worker, items, n, false);
		settings->customer_lock_timeout_ms = 0; /* the next try does not wait again for the locks that this one waited
												 * for */
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	if (error == NULL)
		return;
	if (overflowed)
	{
		ereport(WARNING,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("notifications are skipped: %s", error->message)));
		settings->notify_full = true;
	}
	if (kept || overflowed)
	{
		apply_range(worker, items, n, settings);
		return;
	}
	if (n == 1)
	{
		items[0].refusal = ps_reject_make("handler", psprintf("Processing error: %s", error->message));
		items[0].refusal->sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode));
		apply_range(worker, items, 1, settings);
		return;
	}
	if (error->sqlerrcode == PS_ERRCODE_SLOW)
	{
		/* so that it is seen, and can be paused, before all have had their time */
		ps_worker_set_state(worker, PS_STATE_RUNNING, error->message, error->hint, -1);
		MemoryContextSwitchTo(context);
		for (int i = 0; i < n; i++)
		{
			ps_control_check(worker);
			apply_range(worker, &items[i], 1, settings);
		}
		return;
	}
	apply_range(worker, items, n / 2, settings);
	apply_range(worker, items + n / 2, n - n / 2, settings);
}

/* Makes entries of the messages that are to be applied, and decodes them. */
static int
make_entries(PsWorker *worker, PsIntake *intake, PsApplyItem *items, const PsApplySettings *settings)
{
	int			n = 0;
	ListCell   *cell;

	for (int i = 0; i < intake->n; i++)
	{
		if (!ps_progress_read(worker, &intake->messages[i]))
			continue;
		memset(&items[n], 0, sizeof(PsApplyItem));
		items[n].message = intake->messages[i];
		items[n++].message.epoch = ps_partition_find(worker, intake->messages[i].partition)->epoch;
	}
	foreach(cell, intake->ends)
		ps_progress_end(worker, lfirst(cell));
	ps_apply_decode(items, n, settings);
	return n;
}

/*
 * Holds the events among the entries, and puts those that are due, or of all, in
 * their place, at most a batch of them.
 */
static int
batch_reorder(PsWorker *worker, PsApplyItem **items, int n, const PsApplySettings *settings, bool flush)
{
	PsStream   *stream = worker->stream;
	PsReorderSettings holding = {stream->reorder_wait_us, stream->reorder_buffer_size,
	ps_reorder_memory_kb * INT64CONST(1024) - ps_deferred_bytes(worker->aside), PS_MAX_HELD_SPAN};
	PsMoment	now = ps_clock_now();
	PsMessage  *released;
	PsApplyItem *result;
	int			nreleased;
	int			left = 0;

	for (int i = 0; i < n; i++)
		if ((*items)[i].event != NULL)
			ps_reorder_add(worker->reorder, &holding, &(*items)[i].message, (*items)[i].event, now);
	nreleased = ps_reorder_release(worker->reorder, &holding, now, flush, stream->batch_size, &released);
	result = palloc_extended(Max(n + nreleased, 1) * sizeof(PsApplyItem), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < n; i++)
		if ((*items)[i].event == NULL)
			result[left++] = (*items)[i];
	for (int i = 0; i < nreleased; i++)
		result[left + i].message = released[i];
	ps_apply_decode(result + left, nreleased, settings);
	*items = result;
	return left + nreleased;
}

PsMoment
ps_batch_next_due(const PsWorker *worker)
{
	PsMoment	oldest = ps_reorder_oldest(worker->reorder);

	if (oldest != PS_MOMENT_PAST && oldest != PS_MOMENT_NEVER)
		oldest += worker->stream->reorder_wait_us;
	return Min(Min(oldest, ps_progress_due(worker)), ps_deferred_next_try(worker->aside));
}

bool
ps_batch_is_blocked(const PsWorker *worker)
{
	/* what waits to be ordered has the other half */
	int64		room = ps_reorder_memory_kb * INT64CONST(1024) / (worker->stream->reorder_wait_us > 0 ? 2 : 1);

	if (ps_deferred_next_try(worker->aside) == PS_MOMENT_NEVER)
		return false;
	for (int i = 0; i < worker->npartitions; i++)
		if (worker->partitions[i].offsets.read - worker->partitions[i].offsets.next > PS_MAX_HELD_SPAN)
			return true;
	return ps_deferred_bytes(worker->aside) >= room;
}

/* Tells the group's offsets to Kafka's tools, now and then. */
static void
report_offsets(PsWorker *worker)
{
	PsMoment	now = ps_clock_now();
	PsPosition *positions;

	if (now < worker->next_report || worker->npartitions == 0)
		return;
	positions = palloc(worker->npartitions * sizeof(PsPosition));
	for (int i = 0; i < worker->npartitions; i++)
	{
		positions[i].partition = worker->partitions[i].partition;
		positions[i].offset = worker->partitions[i].stored_offset;
	}
	ps_consumer_report(worker->consumer, positions, worker->npartitions);
	worker->next_report = ps_moment_plus(now, REPORT_INTERVAL_MS);
}

/* Applies decoded entries, a transaction at a time. */
static void
batch_apply_entries(PsWorker *worker, PsApplyItem *items, int n, PsApplySettings *settings)
{
	ps_apply_read(items, n, settings);
	ps_poison_refuse(worker, items, n);
	PS_FAILPOINT("after_decode");
	do
	{
		int			taken;
		char		activity[128];

		CHECK_FOR_INTERRUPTS();
		taken = ps_apply_prefix(items, Min(n, worker->stream->batch_size), worker->max_customers);
		taken = ps_failure_prefix(worker, items, taken);
		if (taken > 0)
		{
			snprintf(activity, sizeof(activity), "apply %s[%d] @ " INT64_FORMAT, worker->stream->topic,
					 items[0].message.partition, items[0].message.offset);
			pgstat_report_activity(STATE_RUNNING, activity);
		}
		apply_range(worker, items, taken, settings);
		items += taken;
		n -= taken;
	} while (n > 0);
}

/* Applies what is set aside of customers whose locks are free again, before anything newer of them. */
static void
retry_aside(PsWorker *worker, PsApplySettings settings)
{
	PsApplyItem *items;
	int			n;

	ps_deferred_probe_rows(worker);
	n = ps_deferred_take(worker->aside, worker->stream->batch_size, &items);
	settings.customer_lock_timeout_ms = 0;
	ps_apply_decode(items, n, &settings);
	if (n > 0)
		batch_apply_entries(worker, items, n, &settings);
	ps_deferred_end(worker->aside);
}

/* The rules of this batch, which were there before it. */
static const PsRules *
hold_rules(void)
{
	MemoryContext context = CurrentMemoryContext;
	const PsRules *rules;

	ps_rules_release_all();
	if (!ps_rules_are_stale())
		return ps_rules_hold();
	StartTransactionCommand();
	ps_rules_lock();
	rules = ps_rules_hold();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return rules;
}

void
ps_batch_apply(PsWorker *worker, PsIntake *intake, bool flush)
{
	PsApplySettings settings = apply_settings(worker->stream);
	PsApplyItem *items = palloc_extended(Max(intake->n, 1) * sizeof(PsApplyItem), MCXT_ALLOC_HUGE);
	int			n;

	PS_FAILPOINT("after_fetch");
	settings.rules = hold_rules();
	if (flush)
		settings.customer_lock_timeout_ms = Min(settings.customer_lock_timeout_ms, FLUSH_WAIT_MS);
	if (ps_clock_now() >= ps_deferred_next_try(worker->aside))
		retry_aside(worker, settings);
	n = make_entries(worker, intake, items, &settings);
	if (worker->stream->reorder_wait_us > 0 || ps_reorder_held(worker->reorder) > 0)
		n = batch_reorder(worker, &items, n, &settings, flush);
	/* a try alone needs no transaction */
	if (intake->n > 0 || intake->ends != NIL || n > 0 || ps_progress_due(worker) <= ps_clock_now())
		batch_apply_entries(worker, items, n, &settings);
	ps_rules_release();
	ps_reorder_forget_released(worker->reorder);
	report_offsets(worker);
}
