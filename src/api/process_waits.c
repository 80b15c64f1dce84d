/*
 * process_waits.c
 *	  What the processes of this database report of themselves, and what they wait
 *	  for at this moment: seen from outside, so that a process that hangs need do
 *	  nothing for it.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "ingest/report.h"
#include "miscadmin.h"
#include "process/lease.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "store/lock_wait.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define LOCK_MS 500				/* a wait for a lock that takes longer is shown */
#define TURN_MS 2000			/* likewise, of others, a turn of a worker's loop */
#define WAIT_CLASS 0xFF000000U

/* Whether a lock of a process is of a space of ours, in this database. */
static bool
is_ours(const LockInstanceData *lock, uint16 space)
{
	return lock->locktag.locktag_type == LOCKTAG_ADVISORY && lock->locktag.locktag_field4 == space &&
		lock->locktag.locktag_field1 == MyDatabaseId && lock->pid != 0 &&
		(lock->holdMask & LOCKBIT_ON(ExclusiveLock)) != 0;
}

/* Opens the report of a process, NULL when it has none; of which stream. */
static dsm_segment *
open_report(const LockData *locks, int pid, int *stream_id)
{
	for (int i = 0; i < locks->nelements; i++)
	{
		if (locks->locks[i].pid != pid || !is_ours(&locks->locks[i], PS_SPACE_REPORT))
			continue;
		*stream_id = (int) locks->locks[i].locktag.locktag_field2;
		return dsm_attach(locks->locks[i].locktag.locktag_field3);
	}
	return NULL;
}

/* The lock that a process waits for long enough, in words, or NULL. */
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

/* What else a worker waits for in a turn that takes long, in words, or NULL. */
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

/* What a process waits for, or NULL. */
static char *
describe_wait(const LockData *locks, int pid)
{
	PGPROC	   *proc = BackendPidGetProc(pid);
	uint32		event = proc ? *(volatile uint32 *) &proc->wait_event_info : 0;
	dsm_segment *segment;
	int			stream_id;
	char	   *text = NULL;

	if ((event & WAIT_CLASS) == PG_WAIT_LOCK && (text = describe_lock_wait(locks, pid)) !=NULL)
		return text;

	segment = open_report(locks, pid, &stream_id);
	if (segment != NULL)
	{
		PsReport   *report = dsm_segment_address(segment);

		text = describe_other_wait(event, report->turn_began);

		if (text == NULL && report->complaint[0] != '\0')
			text = pnstrdup(report->complaint, PS_REPORT_COMPLAINT);

		dsm_detach(segment);
	}
	return text;
}

/* Whether the process of a lease was seen already. */
static bool
seen_before(const LockData *locks, int n)
{
	for (int i = 0; i < n; i++)
		if (locks->locks[i].pid == locks->locks[n].pid && is_ours(&locks->locks[i], PS_SPACE_LEASE))
			return true;
	return false;
}

PG_FUNCTION_INFO_V1(ps_process_waits);
Datum
ps_process_waits(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	LockData   *locks = GetLockStatusData();

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < locks->nelements; i++)
	{
		Datum		values[2];
		bool		nulls[2] = {false};
		char	   *text;

		if (!is_ours(&locks->locks[i], PS_SPACE_LEASE) || seen_before(locks, i) ||
			(text = describe_wait(locks, locks->locks[i].pid)) == NULL)
			continue;
		values[0] = Int32GetDatum(locks->locks[i].pid);
		values[1] = CStringGetTextDatum(text);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(ps_reported_ends);
Datum
ps_reported_ends(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	LockData   *locks = GetLockStatusData();

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < locks->nelements; i++)
	{
		dsm_segment *segment;
		PsReport   *report;
		int			stream_id;

		if (!is_ours(&locks->locks[i], PS_SPACE_REPORT) ||
			(segment = open_report(locks, locks->locks[i].pid, &stream_id)) == NULL)
			continue;
		report = dsm_segment_address(segment);
		for (int p = 0; p < Min(report->npartitions, report->capacity); p++)
		{
			Datum		values[3] = {Int32GetDatum(stream_id), Int32GetDatum(report->ends[p].partition), Int64GetDatum(report->ends[p].end_offset)};
			bool		nulls[3] = {false};

			if (report->ends[p].end_offset >= 0)
				tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
		dsm_detach(segment);
	}
	return (Datum) 0;
}
