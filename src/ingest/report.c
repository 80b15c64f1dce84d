/*
 * report.c
 *	  A worker's report, and a thread that asks Kafka for end offsets while the
 *	  process does not. That is so when a batch hangs, and after an error: the lag in
 *	  the views stays true all the same.
 */
#include "postgres.h"

#include <poll.h>
#include <pthread.h>

#include "ingest/report.h"
#include "ingest/partition.h"
#include "ingest/topics.h"
#include "kafka/thread.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "process/lease.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

#define LOOK_MS 1000
#define QUIET_MS 2000			/* the thread asks after so long without a turn of the loop */
#define ASK_TIMEOUT_MS 5000
#define LOOK_BESIDE_MS 500		/* between two looks which processes rebuild other streams */
#define PS_MAX_BESIDE 64

/* what the thread shares with its process */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static PsReport *report = NULL;
static uint64 generation = 0;	/* changes with the assignment */
static void *client = NULL;		/* NULL: do not use it */
static PsEnd *assigned = NULL;	/* the partitions of the assignment, as report has them; malloc'd */
static int	nassigned = 0;
static PsMoment last_turn = 0;
static bool asking = false;

static dsm_segment *segment = NULL;
static bool started = false;

/* Copies which partitions are assigned; false when there is nothing to ask. */
static bool
begin_asking(PsEnd **ends, int *n, uint64 *asked)
{
	pthread_mutex_lock(&mutex);
	if (report != NULL && client != NULL && nassigned > 0 && ps_clock_now() >= ps_moment_plus(last_turn, QUIET_MS))
		*ends = malloc(nassigned * sizeof(PsEnd));
	else
		*ends = NULL;
	if (*ends != NULL)
	{
		*n = nassigned;
		*asked = generation;
		memcpy(*ends, assigned, nassigned * sizeof(PsEnd));
		asking = true;
	}
	pthread_mutex_unlock(&mutex);
	return *ends != NULL;
}

/* The thread. It calls librdkafka, malloc and free, and no function of PostgreSQL, which would not be safe. */
static void *
report_watch(void *arg)
{
	for (;;)
	{
		PsEnd	   *ends;
		uint64		asked;
		int			n;
		bool		known;

		(void) poll(NULL, 0, LOOK_MS);
		if (!begin_asking(&ends, &n, &asked))
			continue;
		known = ps_lookup_ends(client, ends, n, ASK_TIMEOUT_MS);
		pthread_mutex_lock(&mutex);
		for (int i = 0; known && report != NULL && asked == generation && i < n; i++)
			report->ends[i].end_offset = ends[i].end_offset;
		asking = false;
		pthread_mutex_unlock(&mutex);
		free(ends);
	}
	return NULL;
}

bool
ps_report_end(void)
{
	bool		unused;

	pthread_mutex_lock(&mutex);
	client = NULL;
	unused = !asking;
	pthread_mutex_unlock(&mutex);
	return unused;
}

/* Before the segment is unmapped. */
static void
at_exit(int code, Datum arg)
{
	if (report != NULL)
		report->ended = true;
	pthread_mutex_lock(&mutex);
	report = NULL;
	client = NULL;
	pthread_mutex_unlock(&mutex);
}

/* Makes a segment with room for so many partitions. NULL: the server has no free segment, and there is no report. */
static PsReport *
make_report(PsWorker *worker, int capacity)
{
	Size		size = offsetof(PsReport, ends) + capacity * sizeof(PsReportedEnd);
	PsReport   *made;

	if (segment != NULL)
	{
		((PsReport *) dsm_segment_address(segment))->ended = true;
		ps_lease_unpublish(worker->stream->stream_id, dsm_segment_handle(segment), PS_SPACE_REPORT);
		dsm_detach(segment);
	}
	segment = dsm_create(size, DSM_CREATE_NULL_IF_MAXSEGMENTS);
	if (segment == NULL)
		return NULL;
	dsm_pin_mapping(segment);
	made = dsm_segment_address(segment);
	memset(made, 0, size);
	made->capacity = capacity;
	SpinLockInit(&made->flushes.mutex);
	made->pending = DT_NOBEGIN;
	ps_lease_publish(worker->stream->stream_id, dsm_segment_handle(segment), PS_SPACE_REPORT);
	return made;
}

/* Copies the partitions for the thread, which may not read memory of PostgreSQL. */
static PsEnd *
copy_assignment(const PsWorker *worker, int *n)
{
	PsEnd	   *copy = malloc(Max(worker->reading.npartitions, 1) * sizeof(PsEnd));

	*n = copy != NULL ? worker->reading.npartitions : 0;
	for (int i = 0; i < *n; i++)
	{
		strlcpy(copy[i].topic, ps_topics_name(worker, worker->reading.partitions[i].topic_no), sizeof(copy[i].topic));
		copy[i].partition = worker->reading.partitions[i].partition;
		copy[i].end_offset = -1;
	}
	return copy;
}

/* Copies what is reported of partitions, to which that of the next assignment is added. NULL: nothing. */
static PsReportedEnd *
keep_ends(int *n)
{
	PsReportedEnd *kept;

	*n = report != NULL ? report->npartitions : 0;
	if (*n == 0)
		return NULL;
	kept = palloc(*n * sizeof(PsReportedEnd));
	memcpy(kept, report->ends, *n * sizeof(PsReportedEnd));
	return kept;
}

/* Reports a partition that is assigned; what was reported of it before goes on. */
static void
begin_end(PsReportedEnd *end, const PsPartition *partition, const PsReportedEnd *kept, int nkept)
{
	PsReportedEnd begun = {partition->topic_no, partition->partition,.oldest_at = DT_NOBEGIN,.since = GetCurrentTimestamp()};

	for (int i = 0; i < nkept; i++)
		if (kept[i].topic_no == partition->topic_no && kept[i].partition == partition->partition)
			begun = kept[i];
	begun.end_offset = -1;
	*end = begun;
}

void
ps_report_assign(PsWorker *worker)
{
	PsEnd	   *before;
	PsEnd	   *copy;
	int			n;
	int			nkept;
	PsReportedEnd *kept = keep_ends(&nkept);
	PsReport   *present = report;

	if (!started)
		before_shmem_exit(at_exit, (Datum) 0);
	if (present == NULL || present->capacity < worker->reading.npartitions)
	{
		pthread_mutex_lock(&mutex);
		report = NULL;
		pthread_mutex_unlock(&mutex);
		present = make_report(worker, Max(64, 2 * worker->reading.npartitions));
	}
	if (present == NULL && worker->rebuilt_beside != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no shared memory segment is free, by which rebuilds of several streams go on together"),
				 errhint("The server has 64 of them, and 5 more for each of max_connections.")));
	copy = copy_assignment(worker, &n);
	pthread_mutex_lock(&mutex);
	before = assigned;
	assigned = copy;
	nassigned = n;
	client = ps_consumer_handle(worker->consumer);
	last_turn = ps_clock_now();
	generation++;
	for (int i = 0; present != NULL && i < worker->reading.npartitions; i++)
		begin_end(&present->ends[i], &worker->reading.partitions[i], kept, nkept);
	if (present != NULL)
	{
		present->npartitions = worker->reading.npartitions;
		present->assignments++;
	}
	report = present;
	pthread_mutex_unlock(&mutex);
	if (kept != NULL)
		pfree(kept);
	free(before);
	if (!started)
		started = ps_thread_start(report_watch, NULL);
}

PsFlushes *
ps_report_flushes(void)
{
	return report != NULL ? &report->flushes : NULL;
}

void
ps_report_turn(bool begins, bool polls)
{
	if (report == NULL)
		return;
	report->turn_began = begins ? GetCurrentTimestamp() : 0;
	if (!polls)
		return;
	pthread_mutex_lock(&mutex);
	last_turn = ps_clock_now();
	pthread_mutex_unlock(&mutex);
}

void
ps_report_oldest(int place, TimestampTz oldest)
{
	if (report != NULL && place < report->npartitions && oldest != DT_NOBEGIN)
		report->ends[place].oldest_at = oldest;
}

void
ps_report_rate(int place, const PsCounts *counts, TimestampTz now)
{
	if (report != NULL && place < report->npartitions)
		ps_rate_add(report->ends[place].rates, counts->consumed, counts->applied, now);
}

void
ps_report_broker(bool away)
{
	if (report != NULL)
		report->broker_away = away;
}

void
ps_report_pending(TimestampTz pending)
{
	if (report != NULL)
		report->pending = pending;
}

/* Attaches the report of another rebuild; NULL: it does not run. */
static dsm_segment *
attach_beside(int stream_id)
{
	LockData   *locks = GetLockStatusData();
	const LockInstanceData *lock;
	dsm_segment *found = NULL;
	int			place = 0;

	while (found == NULL && (lock = ps_lease_next(locks, &place, PS_SPACE_REPORT)) != NULL)
		if (lock->locktag.locktag_field1 == MyDatabaseId &&
			lock->locktag.locktag_field2 == (uint32) PS_LEASE_OF_REBUILD(stream_id))
			found = dsm_attach(lock->locktag.locktag_field3);
	if (found != NULL)
		dsm_pin_mapping(found);
	return found;
}

TimestampTz
ps_report_pending_beside(const PsWorker *worker)
{
	static dsm_segment *beside[PS_MAX_BESIDE];
	static int	ids[PS_MAX_BESIDE];
	static int	n = 0;
	static PsMoment next_look = 0;
	PsMoment	now = ps_clock_now();
	bool		look = now >= next_look;
	TimestampTz first = DT_NOEND;
	ListCell   *cell;
	int			i = 0;

	/* a process that ended left its report: the locks say which are of processes that run */
	for (int old = 0; look && old < n; old++)
		if (beside[old] != NULL)
			dsm_detach(beside[old]);
	foreach(cell, worker->rebuilt_beside)
	{
		if (i == PS_MAX_BESIDE)
			break;
		if (look || i >= n || ids[i] != lfirst_int(cell))
			beside[i] = attach_beside(lfirst_int(cell));
		ids[i] = lfirst_int(cell);
		first = Min(first, beside[i] != NULL ? ((PsReport *) dsm_segment_address(beside[i]))->pending : DT_NOBEGIN);
		i++;
	}
	n = i;
	if (look)
		next_look = ps_moment_plus(now, LOOK_BESIDE_MS);
	return first;
}

void
ps_report_complain(const char *complaint)
{
	int			len = complaint ? pg_mbcliplen(complaint, strlen(complaint), PS_REPORT_COMPLAINT - 1) : 0;

	if (report == NULL)
		return;
	memcpy(report->complaint, complaint ? complaint : "", len);
	report->complaint[len] = '\0';
}
