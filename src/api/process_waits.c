/*
 * process_waits.c
 *	  Functions of the monitoring views that tell about our processes: their leases, what
 *	  they wait for now, and their reports in shared memory. The views stay true also while
 *	  a process hangs, because the process itself need do nothing.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "ingest/report.h"
#include "miscadmin.h"
#include "process/bgworker.h"
#include "process/lease.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "store/lock_wait.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define LOCK_MS 500				/* longer waits for a lock are shown */
#define TURN_MS 2000			/* other waits are shown when a turn of the worker's loop takes longer */
#define WAIT_CLASS 0xFF000000U

/* The next process of this database that has a lock of a space; see ps_lease_next(). */
static const LockInstanceData *
next_holder(const LockData *locks, int *place, uint16 space)
{
	const LockInstanceData *lock;

	while ((lock = ps_lease_next(locks, place, space)) != NULL)
		if (lock->locktag.locktag_field1 == MyDatabaseId)
			return lock;
	return NULL;
}

/* Opens the report of a process; NULL: it has none. */
static dsm_segment *
open_report(const LockData *locks, int pid, bool *ours)
{
	const LockInstanceData *lock;
	int			place = 0;

	while ((lock = next_holder(locks, &place, PS_SPACE_REPORT)) != NULL)
		if (lock->pid == pid)
			return ps_segment_open(lock->locktag.locktag_field3, ours);
	return NULL;
}

/* Describes the lock for which a process has waited for some time; NULL: none. */
static char *
describe_lock_wait(const LockData *locks, int pid)
{
	TimestampTz before = GetCurrentTimestamp() - LOCK_MS * INT64CONST(1000);

	for (int i = 0; i < locks->nelements; i++)
	{
		const LockInstanceData *lock = &locks->locks[i];
		char	   *holders;

		if (lock->pid != pid || lock->waitLockMode == NoLock || lock->waitStart == 0 || lock->waitStart > before)
			continue;
		holders = ps_lock_wait_holders(&lock->locktag, lock->waitLockMode, pid);
		return psprintf("waits for %s, which %s has, since %s", ps_lock_wait_describe(&lock->locktag, lock->waitLockMode),
						holders ? holders : "nobody any more", timestamptz_to_str(lock->waitStart));
	}
	return NULL;
}

/* Describes another wait of a worker whose turn takes long; NULL: none. */
static char *
describe_other_wait(uint32 event, TimestampTz turn_began)
{
	if (turn_began == 0 || turn_began > GetCurrentTimestamp() - TURN_MS * INT64CONST(1000))
		return NULL;
	switch (event & WAIT_CLASS)
	{
		case 0:					/* it works */
		case PG_WAIT_ACTIVITY:
		case PG_WAIT_CLIENT:
		case PG_WAIT_EXTENSION: /* for messages */
			return NULL;
	}
	if (event == WAIT_EVENT_SYNC_REP)
		return psprintf("waits for a synchronous standby, since %s", timestamptz_to_str(turn_began));
	return psprintf("waits for %s %s, since %s", pgstat_get_wait_event_type(event), pgstat_get_wait_event(event),
					timestamptz_to_str(turn_began));
}

/* Describes what a process waits for; NULL: nothing. */
static char *
describe_wait(const LockData *locks, int pid)
{
	PGPROC	   *proc = BackendPidGetProc(pid);
	uint32		event = proc ? *(volatile uint32 *) &proc->wait_event_info : 0;
	dsm_segment *segment;
	bool		ours;
	char	   *text = NULL;

	if ((event & WAIT_CLASS) == PG_WAIT_LOCK && (text = describe_lock_wait(locks, pid)) !=NULL)
		return text;

	segment = open_report(locks, pid, &ours);
	if (segment != NULL)
	{
		PsReport   *report = dsm_segment_address(segment);

		text = describe_other_wait(event, report->turn_began);

		if (text == NULL && report->complaint[0] != '\0')
			text = pnstrdup(report->complaint, PS_REPORT_COMPLAINT);

		ps_segment_close(segment, ours);
	}
	return text;
}

PG_FUNCTION_INFO_V1(ps_process_waits);
Datum
ps_process_waits(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	LockData   *locks = GetLockStatusData();
	const LockInstanceData *lock;
	List	   *seen = NIL;		/* a process has a lease for each partition */
	int			place = 0;

	InitMaterializedSRF(fcinfo, 0);
	while ((lock = next_holder(locks, &place, PS_SPACE_LEASE)) != NULL)
	{
		Datum		values[2] = {Int32GetDatum(lock->pid)};
		bool		nulls[2] = {false};
		char	   *text;

		if (list_member_int(seen, lock->pid))
			continue;
		seen = lappend_int(seen, lock->pid);
		text = describe_wait(locks, lock->pid);

		if (text == NULL)
			continue;
		values[1] = CStringGetTextDatum(text);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* The columns of reported_partitions(). */
enum
{
	STREAM_ID, TOPIC_NO, PARTITION, SINCE, END_OFFSET, OLDEST_AT, BROKER_AWAY, MESSAGES, APPLIED, NCOLUMNS
};

static void
put_partition(ReturnSetInfo *rsinfo, uint32 stream_id, const PsReport *report, const PsReportedEnd *end)
{
	Datum		values[NCOLUMNS];
	bool		nulls[NCOLUMNS] = {false};
	double		messages;
	double		applied;

	ps_rate_read(end->rates, end->since, GetCurrentTimestamp(), &messages, &applied);
	values[STREAM_ID] = Int64GetDatum(stream_id);
	values[TOPIC_NO] = Int32GetDatum(end->topic_no);
	values[PARTITION] = Int32GetDatum(end->partition);
	values[SINCE] = TimestampTzGetDatum(end->since);
	values[END_OFFSET] = Int64GetDatum(end->end_offset);
	nulls[END_OFFSET] = end->end_offset < 0;
	values[OLDEST_AT] = TimestampTzGetDatum(end->oldest_at);
	nulls[OLDEST_AT] = end->oldest_at == DT_NOBEGIN;
	values[BROKER_AWAY] = BoolGetDatum(report->broker_away);
	values[MESSAGES] = Float8GetDatum(rint(messages * 10) / 10);
	values[APPLIED] = Float8GetDatum(rint(applied * 10) / 10);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(ps_reported_partitions);
Datum
ps_reported_partitions(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	LockData   *locks = GetLockStatusData();
	const LockInstanceData *lock;
	int			place = 0;

	InitMaterializedSRF(fcinfo, 0);
	while ((lock = next_holder(locks, &place, PS_SPACE_REPORT)) != NULL)
	{
		bool		ours;
		dsm_segment *segment = ps_segment_open(lock->locktag.locktag_field3, &ours);
		PsReport   *report = segment ? dsm_segment_address(segment) : NULL;

		for (int p = 0; report != NULL && p < Min(report->npartitions, report->capacity); p++)
			put_partition(rsinfo, lock->locktag.locktag_field2, report, &report->ends[p]);
		if (segment != NULL)
			ps_segment_close(segment, ours);
	}
	return (Datum) 0;
}

/* The views of 0.1.0 call it until ALTER EXTENSION UPDATE. Without it their lag is what the last commit has seen. */
PG_FUNCTION_INFO_V1(ps_reported_ends);
Datum
ps_reported_ends(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(ps_lease_holder);
Datum
ps_lease_holder(PG_FUNCTION_ARGS)
{
	uint32		key = PG_GETARG_OID(0);
	uint32		number = PS_LEASE_WORKER(key);	/* back from the key */
	Datum		values[3] = {0};
	bool		nulls[3] = {true, true, true};
	TupleDesc	columns;

	if (get_call_result_type(fcinfo, NULL, &columns) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (number < PS_MAX_WORKERS)
	{
		values[0] = Int32GetDatum(number);
		nulls[0] = false;
	}
	else if (number < PS_RELAY_NUMBER(PS_SINK_KINDS))
	{
		values[2] = CStringGetTextDatum(ps_sinks[number - PS_RELAY_NUMBER(0)].name);
		nulls[2] = false;
	}
	else if (key <= PG_INT32_MAX)
	{
		values[1] = Int64GetDatum(key);
		nulls[1] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(columns, values, nulls)));
}
