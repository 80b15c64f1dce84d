/*
 * batch.c
 *	  Applies what was read, one transaction after the other.
 *
 *	  When a transaction fails because of the data of an event, its messages are
 *	  halved until that event is alone: it becomes a dead letter, and the others are
 *	  applied. Any other error is left to the worker, which reads again from the
 *	  stored offsets. So an error of the system never makes a dead letter.
 */
#include "postgres.h"

#include "access/xact.h"
#include "apply/notify.h"
#include "ingest/batch.h"
#include "ingest/decoding.h"
#include "ingest/failure.h"
#include "ingest/lock_budget.h"
#include "ingest/locked_rows.h"
#include "ingest/metering.h"
#include "ingest/order_report.h"
#include "ingest/poison.h"
#include "ingest/progress.h"
#include "ingest/shard_progress.h"
#include "ingest/transaction.h"
#include "ingest/worker_state.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "process/bgworker.h"
#include "settings.h"
#include "store/extension.h"
#include "store/lock_wait.h"
#include "store/locks.h"
#include "store/owner.h"
#include "store/rule_catalog.h"
#include "store/sqlstate.h"
#include "store/xact.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define REPORT_INTERVAL_MS 5000
#define PROGRESS_INTERVAL_MS 1000	/* to store what was read and waits, while no offset moves */
#define FLUSH_WAIT_MS 100		/* a stop waits so long for customers' locks */
#define CONTEXT_PARTITIONS 8	/* an error's context names so many */

/* The items of a transaction, for the context of its errors. */
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
		.now = GetCurrentTimestamp(),
		.max_clock_skew_us = ps_max_clock_skew_ms * INT64CONST(1000),
		.max_event_bytes = ps_max_event_bytes,
		.format_map = stream->format_map,
		.time_unit = stream->time_unit,
		.own_formats = stream->own_formats,
		.nown_formats = stream->nown_formats,
		.event_id_scope = strcmp(stream->event_id_scope, "stream") == 0 ? stream->stream_id : 0,
		.dedupe_retention_us = stream->dedupe_retention_us,
		.event_types = stream->event_types.n > 0 ? &stream->event_types : NULL,
		.accept_unknown_schema = strcmp(stream->unknown_schema, "accept") == 0,
		.key_is_customer = strcmp(stream->message_key, "customer") == 0,
		.partition_is_shard = ps_stream_goes_by_partition(stream),
		.late_tolerance_us = stream->late_tolerance_us,
		.customer_lock_timeout_ms = stream->customer_lock_timeout_ms,
		.notify_channel = stream->channel,
		.segment_channel_prefix = stream->segment_channel_prefix
	};

	settings.late_policy = strcmp(stream->late_policy, "apply") == 0 ? PS_LATE_IS_APPLIED :
		strcmp(stream->late_policy, "drop") == 0 ? PS_LATE_IS_DROPPED : PS_LATE_TO_DEAD_LETTERS;
	settings.notify = strcmp(stream->notify, "customer") == 0 ? PS_NOTIFY_CUSTOMER :
		strcmp(stream->notify, "batch") == 0 ? PS_NOTIFY_BATCH : PS_NOTIFY_OFF;
	return settings;
}

/* Finds the first and last offset of a partition in a range, and its topic; false when it has none. */
static bool
find_offsets(const Range *range, const PsPartition *partition, const char **topic, int64 *first, int64 *last)
{
	*first = PG_INT64_MAX;
	*last = -1;
	for (int i = 0; i < range->n; i++)
	{
		const PsMessage *message = &range->items[i].message;

		if (message->partition != partition->partition || message->topic_no != partition->topic_no)
			continue;
		*topic = message->topic;
		*first = Min(*first, message->offset);
		*last = Max(*last, message->offset);
	}
	return *last >= 0;
}

/* Error context callback: says where in the topic the error came, and which event it was if it was alone. */
static void
describe_range(void *arg)
{
	const Range *range = arg;
	const PsWorker *worker = range->worker;
	const PsEvent *event = range->n == 1 ? range->items[0].event : NULL;
	StringInfoData where;
	const char *topic = NULL;
	const char *before = NULL;
	int			named = 0;
	int64		first;
	int64		last;

	initStringInfo(&where);
	for (int i = 0; i < worker->reading.npartitions; i++)
	{
		if (!find_offsets(range, &worker->reading.partitions[i], &topic, &first, &last))
			continue;
		if (named++ == CONTEXT_PARTITIONS)
		{
			appendStringInfoString(&where, ", and more");
			break;
		}
		appendStringInfoString(&where, named == 1 ? "" : ",");
		if (topic != before)
			appendStringInfo(&where, " topic \"%s\"", topic);
		appendStringInfo(&where, " partition %d offset " INT64_FORMAT " to " INT64_FORMAT,
						 worker->reading.partitions[i].partition, first, last);
		before = topic;
	}
	if (event != NULL)
		errcontext("applying%s of stream \"%s\": event \"%s\" of customer \"%s\"",
				   where.data, worker->stream->name, event->event_id, event->customer_id);
	else
		errcontext("applying%s of stream \"%s\"", where.data, worker->stream->name);
	pfree(where.data);
}

/*
 * One transaction: the items' effects and the offsets commit together, or neither
 * does. What memory knows of them is changed after the commit only.
 */
static void
apply_transaction(PsWorker *worker, PsApplyItem *items, int n, PsApplySettings *settings, PsProgress *progress)
{
	Range		range = {worker, items, n};
	ErrorContextCallback callback = {error_context_stack, describe_range, &range};
	PsMoment	began = ps_clock_now();
	bool		store_read = began >= worker->reading.next_progress;

	error_context_stack = &callback;	/* PG_CATCH takes it off */
	ps_worker_begin(worker);
	ps_check_may_run(GetUserId());
	ps_lock_tables();
	ps_shard_progress_fence(worker);
	if (ps_extension_is_doubtful())
		ps_bgworker_end_unless_matched();	/* the tables were changed while this process waited for them */
	MemoryContextReset(worker->apply_context);
	MemoryContextSwitchTo(worker->apply_context);
	ps_waiting_mark(worker->waiting, items, n);
	if (worker->shards != NULL)
		ps_shard_progress_apply(worker, items, n, settings);
	else if (n > 0)
		ps_apply_items(items, n, settings);
	ps_progress_begin(worker, progress, items, n, store_read);
	ps_apply_offsets(settings, progress->moves, progress->nmoves);
	if (worker->shards != NULL)
		ps_shard_progress_store(worker, progress->moves, progress->nmoves, store_read);
	PS_FAILPOINT("before_commit");
	CommitTransactionCommand();
	error_context_stack = callback.previous;
	ps_lock_wait_over();
	ps_metering_commit(worker, progress, began);
	ps_progress_commit(worker, progress);
	ps_shard_progress_commit(worker);
	ps_order_report_note(worker, progress);
	if (worker->failure.suspects != NIL)
		ps_failure_applied(worker, items, n);
	MemoryContextSwitchTo(worker->batch_context);
	ps_waiting_committed(worker->waiting, worker->stream->name, items, n);
	if (n > 0)
		ps_lock_budget_succeeded(worker);
	if (store_read)
		worker->reading.next_progress = ps_moment_plus(ps_clock_now(), PROGRESS_INTERVAL_MS);
	PS_FAILPOINT("after_commit");
}

/* What a failed try says about the next one. */
typedef struct Failure
{
	ErrorData  *error;			/* NULL: it did not fail */
	bool		overflowed;		/* notifications found no room */
	bool		locked;			/* rows of customers turned out to be held */
} Failure;

/*
 * Whether another try can help. It cannot when the error is the system's, or when it
 * came although the only event is rejected or notifications are skipped.
 */
static bool
can_try_again(const Failure *failure, const PsApplyItem *items, int n, const PsApplySettings *settings)
{
	if (failure->locked)
		return true;
	if (failure->overflowed)
		return !settings->notify_full;
	if (!ps_sqlstate_blames_message(failure->error->sqlerrcode) || n == 0)
		return false;
	return n > 1 || (items[0].event != NULL && items[0].rejected_by != PS_REJECTED_BY_HANDLER);
}

/* Tries to apply a range; raises when another try cannot help. */
static Failure
try_range(PsWorker *worker, PsApplyItem *items, int n, PsApplySettings *settings)
{
	int			known_locked = ps_locked_rows_count(items, n);
	PsProgress *progress = MemoryContextAllocZero(worker->batch_context, sizeof(PsProgress));
	Failure    *failure = MemoryContextAllocZero(worker->batch_context, sizeof(Failure));

	PG_TRY();
	{
		apply_transaction(worker, items, n, settings, progress);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(worker->batch_context);
		failure->error = CopyErrorData();
		failure->overflowed = ps_notify_overflowed(failure->error);
		failure->locked = ps_locked_rows_count(items, n) > known_locked;
		if (!can_try_again(failure, items, n, settings))
		{
			ps_failure_note(worker, items, n);
			PG_RE_THROW();
		}
		FlushErrorState();
		AbortCurrentTransaction();
		ps_progress_rollback(worker, progress);
		if (worker->shards == NULL)
			settings->customer_lock_timeout_ms = 0; /* this try has waited for locks: the next one does not */
	}
	PG_END_TRY();
	return *failure;
}

/*
 * Applies a range. It tries the range again when rows of customers turn out to be
 * held, or when notifications find no room. It halves the range when an event in it
 * cannot be applied.
 */
static void
apply_range(PsWorker *worker, PsApplyItem *items, int n, PsApplySettings *settings)
{
	MemoryContext context = CurrentMemoryContext;
	Failure		failure;
	ErrorData  *error;

	check_stack_depth();
	failure = try_range(worker, items, n, settings);
	error = failure.error;
	MemoryContextSwitchTo(context);
	if (error == NULL)
		return;
	if (failure.overflowed)
	{
		ereport(WARNING,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("notifications are skipped: %s", error->message)));
		settings->notify_full = true;
	}
	if (failure.locked || failure.overflowed)
	{
		apply_range(worker, items, n, settings);
		return;
	}
	if (n == 1)
	{
		PsReject   *reject = ps_reject_make("handler", psprintf("Processing error: %s", error->message));

		reject->sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode));
		ps_item_reject(&items[0], reject, PS_REJECTED_BY_HANDLER);
		apply_range(worker, items, 1, settings);
		return;
	}
	if (error->sqlerrcode == PS_ERRCODE_SLOW)
	{
		/* show it now: each event may take its time, and somebody may want to pause the stream before the last one */
		ps_worker_set_state(worker, PS_STATE_RUNNING, error->message, error->hint);
		MemoryContextSwitchTo(context);
		for (int i = 0; i < n; i++)
		{
			ps_worker_check_wanted(worker);
			apply_range(worker, &items[i], 1, settings);
		}
		return;
	}
	ereport(DEBUG1, (errmsg_internal("applying %d items in two halves, because of: %s", n, error->message)));
	apply_range(worker, items, n / 2, settings);
	apply_range(worker, items + n / 2, n - n / 2, settings);
}

/* Makes items of the messages that are to be applied, and decodes them. */
static int
make_items(PsWorker *worker, PsIntake *intake, PsApplyItem **result, const PsApplySettings *settings)
{
	PsApplyItem *items = palloc_extended(Max(intake->n, 1) * sizeof(PsApplyItem), MCXT_ALLOC_HUGE);
	int			n = 0;
	ListCell   *cell;

	for (int i = 0; i < intake->n; i++)
	{
		if (!ps_progress_read(worker, &intake->messages[i]))
			continue;
		memset(&items[n], 0, sizeof(PsApplyItem));
		items[n].message = intake->messages[i];
		ps_shard_progress_note_shard(worker, &items[n]);
		items[n++].message.epoch = ps_partition_find(worker, intake->messages[i].topic_no, intake->messages[i].partition)->epoch;
	}
	foreach(cell, intake->ends)
		ps_progress_end(worker, lfirst(cell));
	*result = items;
	n = ps_decoding_run(worker, result, n, settings);
	ps_apply_decode(*result, n, settings);
	return n;
}

/*
 * Holds the events among the items, and puts those that are due in their place: at
 * most a batch, and all of them at a flush.
 */
static int
batch_reorder(PsWorker *worker, PsApplyItem **items, int n, const PsApplySettings *settings, bool flush)
{
	PsStream   *stream = worker->stream;
	PsHoldSettings holding = {stream->reorder_wait_us, stream->reorder_buffer_size,
	ps_reorder_memory_kb * INT64CONST(1024), PS_MAX_HELD_SPAN};
	PsMoment	now = ps_clock_now();
	PsApplyItem *released;
	PsApplyItem *result;
	int			nreleased;
	int			left = 0;

	for (int i = 0; i < n; i++)
		if ((*items)[i].event != NULL)
			ps_waiting_hold(worker->waiting, &holding, &(*items)[i], now);
	nreleased = ps_waiting_release(worker->waiting, &holding, now, flush, stream->batch_size, &released);
	ps_apply_decode(released, nreleased, settings);
	result = palloc_extended(Max(n + nreleased, 1) * sizeof(PsApplyItem), MCXT_ALLOC_HUGE);
	for (int i = 0; i < n; i++)
		if ((*items)[i].event == NULL)
			result[left++] = (*items)[i];
	memcpy(result + left, released, nreleased * sizeof(PsApplyItem));
	*items = result;
	return left + nreleased;
}

PsMoment
ps_batch_next_due(const PsWorker *worker)
{
	PsMoment	oldest = ps_waiting_oldest(worker->waiting);

	if (oldest != PS_MOMENT_PAST && oldest != PS_MOMENT_NEVER)
		oldest += worker->stream->reorder_wait_us;
	return Min(Min(oldest, ps_progress_due(worker)), ps_waiting_next_try(worker->waiting));
}

bool
ps_batch_is_blocked(const PsWorker *worker)
{
	/* where messages are held as well, deferred ones get half of the memory: otherwise nothing could be put in order */
	int64		room = ps_reorder_memory_kb * INT64CONST(1024) / (worker->stream->reorder_wait_us > 0 ? 2 : 1);

	if (ps_waiting_next_try(worker->waiting) == PS_MOMENT_NEVER)
		return false;
	for (int i = 0; i < worker->reading.npartitions; i++)
		if (worker->reading.partitions[i].offsets.read - worker->reading.partitions[i].offsets.next > PS_MAX_HELD_SPAN)
			return true;
	return ps_waiting_deferred_bytes(worker->waiting) >= room;
}

/* Commits the group's offsets to Kafka now and then, for Kafka's tools; the worker itself never reads them. */
static void
report_offsets(PsWorker *worker)
{
	PsMoment	now = ps_clock_now();
	PsPosition *positions;

	if (now < worker->reading.next_report || worker->reading.npartitions == 0)
		return;
	positions = palloc(worker->reading.npartitions * sizeof(PsPosition));
	for (int i = 0; i < worker->reading.npartitions; i++)
	{
		positions[i].topic_no = worker->reading.partitions[i].topic_no;
		positions[i].partition = worker->reading.partitions[i].partition;
		positions[i].offset = worker->reading.partitions[i].stored_offset;
	}
	ps_consumer_report(worker->consumer, positions, worker->reading.npartitions);
	worker->reading.next_report = ps_moment_plus(now, REPORT_INTERVAL_MS);
}

/* Applies decoded items, one transaction after the other; one transaction at least, which stores progress. */
static void
batch_apply_items(PsWorker *worker, PsApplyItem *items, int n, PsApplySettings *settings)
{
	ps_apply_read(items, n, settings);
	ps_poison_reject(worker, items, n);
	if (worker->shards != NULL)
	{
		settings->customer_lock_timeout_ms = -1;	/* nobody is left out: a shard's offset passes no message */
		ps_shard_progress_sort(worker, items, n);
	}
	PS_FAILPOINT("after_decode");
	do
	{
		int			taken;
		char		activity[128];

		CHECK_FOR_INTERRUPTS();
		taken = ps_apply_prefix(items, Min(n, worker->stream->batch_size), worker->lock_budget.max_customers);
		taken = ps_failure_prefix(worker, items, taken);
		if (taken > 0)
		{
			snprintf(activity, sizeof(activity), "apply %s[%d] @ " INT64_FORMAT, items[0].message.topic,
					 items[0].message.partition, items[0].message.offset);
			pgstat_report_activity(STATE_RUNNING, activity);
		}
		apply_range(worker, items, taken, settings);
		items += taken;
		n -= taken;
	} while (n > 0);
}

/* Applies the deferred messages of customers whose locks are free again, before anything newer of them. */
static void
retry_deferred(PsWorker *worker, PsApplySettings settings)
{
	PsApplyItem *items;
	int			n;

	ps_locked_rows_probe(worker);
	n = ps_waiting_try(worker->waiting, worker->stream->batch_size, &items);
	settings.customer_lock_timeout_ms = 0;
	ps_apply_decode(items, n, &settings);
	if (n > 0)
		batch_apply_items(worker, items, n, &settings);
	ps_waiting_end_try(worker->waiting);
}

/* The rules that apply to this batch. A change that was committed before the batch counts, a later one does not. */
static const PsRules *
hold_rules(void)
{
	MemoryContext context = CurrentMemoryContext;
	const PsRules *rules;

	ps_rules_release_all();
	if (!ps_rules_are_stale())
		return ps_rules_hold();
	ps_transaction_start();
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
	PsApplyItem *items;
	int			n;

	PS_FAILPOINT("after_fetch");
	settings.rules = hold_rules();
	ps_waiting_decode_by(worker->waiting, worker->stream_reads + ps_rules_loads()); /* both only grow */
	if (flush)
		settings.customer_lock_timeout_ms = Min(settings.customer_lock_timeout_ms, FLUSH_WAIT_MS);
	if (ps_clock_now() >= ps_waiting_next_try(worker->waiting))
		retry_deferred(worker, settings);
	n = make_items(worker, intake, &items, &settings);
	if (worker->stream->reorder_wait_us > 0 || ps_waiting_held(worker->waiting) > 0)
		n = batch_reorder(worker, &items, n, &settings, flush);
	/* after a try of deferred messages alone there is nothing to store */
	if (intake->n > 0 || intake->ends != NIL || n > 0 || ps_progress_due(worker) <= ps_clock_now())
		batch_apply_items(worker, items, n, &settings);
	ps_rules_release();
	report_offsets(worker);
}
