/*
 * order_report.c
 *	  Tells the log of events that came out of order. The counters in stat_streams are
 *	  complete; a line in the log comes at most once a minute for a stream. Its workers
 *	  share that minute: the one that gets it tells what it has noted itself.
 */
#include "postgres.h"

#include "ingest/order_report.h"
#include "ingest/transaction.h"
#include "store/locks.h"
#include "store/rebuild_schema.h"
#include "store/xact.h"
#include "utils/memutils.h"

#define LOG_INTERVAL_MS 60000
#define REFUSED_MS 10000		/* another worker of the stream had the minute */
#define KEYS_MS 3600000			/* keys that are not the customer may keep the order all the same, as other functions
								 * of it */

static int64
count_late(const PsCounts *counts)
{
	return counts->late + counts->late_applied + counts->late_dropped;
}

/* Keeps the first late event of a transaction in words: its item is gone when the log is told. */
static void
keep_late_event(PsWorker *worker, const PsProgress *progress)
{
	for (int i = 0; i < progress->n; i++)
	{
		const PsApplyItem *item = &progress->items[i];

		if (item->event == NULL || item->late_us == 0 || item->outcome == PS_DEFERRED)
			continue;
		worker->order_report.late_event =
			MemoryContextStrdup(worker->context,
								psprintf("event \"%s\" of customer \"%s\", " INT64_FORMAT " ms before the newest of its customer",
										 item->event->event_id, item->event->customer_id, item->late_us / 1000));
		return;
	}
}

void
ps_order_report_note(PsWorker *worker, const PsProgress *progress)
{
	PsOrderReport *report = &worker->order_report;

	for (int i = 0; i < progress->nmoves; i++)
		ps_counts_add(&report->counts, &progress->moves[i].counts);
	if (report->late_event == NULL && count_late(&report->counts) > 0)
		keep_late_event(worker, progress);
}

/* Whether the stream may write to the log now. */
static bool
take_minute(PsWorker *worker)
{
	bool		taken;

	ps_worker_begin(worker);
	ps_lock_definitions(RowExclusiveLock);
	ps_spi_begin();
	taken = ps_stream_take_log_minute(worker->stream->stream_id);
	ps_commit();
	return taken;
}

static void
log_late_events(PsWorker *worker)
{
	PsCounts   *counts = &worker->order_report.counts;

	if (worker->order_report.late_event == NULL)
		return;
	ereport(LOG,
			(errmsg("late events of stream \"%s\": dead letters " INT64_FORMAT ", applied " INT64_FORMAT ", dropped " INT64_FORMAT,
					worker->stream->name, counts->late, counts->late_applied, counts->late_dropped),
			 errdetail("The first of them is %s.", worker->order_report.late_event),
			 errhint("late_tolerance and late_policy of alter_stream() say which events are late, and what becomes of them.")));
	pfree(worker->order_report.late_event);
	worker->order_report.late_event = NULL;
	counts->late = counts->late_applied = counts->late_dropped = 0;
}

/* Whether messages came that let the order of a customer's events be lost. A topic of one partition has an order anyway. */
static bool
is_disordered(const PsWorker *worker, PsMoment now)
{
	const PsOrderReport *report = &worker->order_report;

	return worker->balance.nleases > 1 &&
		(report->counts.other_partition > 0 || (report->counts.other_key > 0 && now >= report->next_keys));
}

static void
warn_of_disorder(PsWorker *worker, PsMoment now)
{
	PsOrderReport *report = &worker->order_report;

	if (!is_disordered(worker, now))
		return;
	ereport(WARNING,
			(errcode(ERRCODE_DATA_EXCEPTION),
			 errmsg("stream \"%s\" may apply events of a customer in a wrong order", worker->stream->name),
			 errdetail("The key of " INT64_FORMAT " events was not their customer, and " INT64_FORMAT
					   " events came from another partition than the event of their customer before.",
					   report->counts.other_key, report->counts.other_partition),
			 errhint("Let producers send each event with its customer as the key: then all events of a customer are in one partition. reorder_wait sorts events that come soon after each other.")));
	report->next_keys = ps_moment_plus(now, KEYS_MS);
	report->counts.other_key = report->counts.other_partition = 0;
}

void
ps_order_report_log(PsWorker *worker)
{
	PsOrderReport *report = &worker->order_report;
	PsMoment	now = ps_clock_now();

	if ((report->late_event == NULL && !is_disordered(worker, now)) || now < report->next || ps_rebuild_schema_used())
		return;
	report->next = ps_moment_plus(now, REFUSED_MS);
	if (!take_minute(worker))
		return;
	report->next = ps_moment_plus(now, LOG_INTERVAL_MS);
	log_late_events(worker);
	warn_of_disorder(worker, now);
}
