/*
 * lag.c
 *	  How long the oldest message of a partition that is not applied has waited.
 *
 *	  Of a message that was read its Kafka timestamp is known. One that was not read has
 *	  waited no longer than the message that was applied last. And none has waited since
 *	  before the partition was seen with all of its messages applied: so a message that
 *	  comes after a quiet hour has not waited for an hour.
 *
 *	  The report keeps what it has while the worker cannot know more, as while the broker
 *	  or the database is away: then time goes on, and nothing is applied.
 */
#include "postgres.h"

#include "ingest/lag.h"
#include "ingest/life.h"
#include "ingest/partition.h"
#include "ingest/report.h"
#include "store/rebuild_schema.h"
#include "store/state_log.h"
#include "utils/timestamp.h"

#define REPORT_MS 500
#define BEHIND_US USECS_PER_MINUTE	/* the log tells when a worker that was so far behind has caught up */

/* Whether everything of a partition is applied, as far as it was seen. */
static bool
is_caught_up(const PsWorker *worker, const PsPartition *partition)
{
	int64		end = ps_consumer_end_offset(worker->consumer, partition->topic_no, partition->partition);

	return end >= 0 && partition->stored_offset >= end;
}

/* Since when the oldest message that is not applied waits, at most; DT_NOBEGIN: not known. */
static TimestampTz
find_oldest(const PsWorker *worker, PsPartition *partition, bool broker_away)
{
	TimestampTz oldest = partition->last_at;

	if (!broker_away && is_caught_up(worker, partition))
		partition->caught_up_at = GetCurrentTimestamp();
	if (partition->offsets.read > partition->stored_offset)
		oldest = ps_timeline_find(&partition->timeline, partition->stored_offset);
	return Max(oldest, partition->caught_up_at);
}

/* Tells the log when the worker has caught up, after messages have waited for long. */
static void
log_caught_up(PsWorker *worker, TimestampTz oldest, bool waits)
{
	TimestampTz now = GetCurrentTimestamp();
	PsReading  *reading = &worker->reading;

	if (waits && reading->behind_since == 0 && oldest != DT_NOBEGIN && oldest < now - BEHIND_US)
		reading->behind_since = now;
	if (waits || reading->behind_since == 0)
		return;
	ereport(LOG,
			(errmsg("%s \"%s\" has caught up: worker %d has applied everything, after %s", ps_rebuild_schema_used() ? "rebuild of stream" : "stream",
					worker->stream->name, worker->number, ps_state_log_duration((now - reading->behind_since) / 1000))));
	reading->behind_since = 0;
}

void
ps_lag_report(PsWorker *worker)
{
	PsMoment	now = ps_clock_now();
	bool		broker_away = (worker->failure.failing & PS_DOING_BROKER) != 0;
	TimestampTz oldest = DT_NOEND;
	bool		waits = false;

	if (now < worker->reading.next_lag)
		return;
	worker->reading.next_lag = ps_moment_plus(now, REPORT_MS);
	ps_report_broker(broker_away);
	if (!ps_life_has_partitions(worker))
		return;
	for (int i = 0; i < worker->reading.npartitions; i++)
	{
		PsPartition *partition = &worker->reading.partitions[i];
		TimestampTz since = find_oldest(worker, partition, broker_away);

		ps_report_oldest(i, since);
		if (is_caught_up(worker, partition))
			continue;
		waits = true;
		oldest = Min(oldest, since);
	}
	log_caught_up(worker, oldest, waits);
}
