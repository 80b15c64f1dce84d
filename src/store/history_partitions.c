/*
 * history_partitions.c
 *	  Makes and drops the partitions of profile_history.
 *
 *	  The length of a new one follows from how long the history is kept, so that there are
 *	  never many. If there are partitions of another length, it fills the gap between them.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "settings.h"
#include "storage/lmgr.h"
#include "store/history_catalog.h"
#include "store/history_partitions.h"
#include "store/owner.h"
#include "store/plan.h"
#include "utils/date.h"
#include "utils/timestamp.h"

static PsPlan make_plan = {
	"SELECT profile_stream_internal.make_history_part($1, $2)",
	2, {DATEOID, DATEOID},.fixed_schema = true
};

/* The range of a partition, or of a gap between two. */
typedef struct Span
{
	TimestampTz from_at;
	TimestampTz to_at;			/* exclusive */
	Oid			partition;		/* InvalidOid: there is none */
} Span;

/* The bound with a number; infinity where it has no value. */
static TimestampTz
bound_time(PartitionBoundInfo bounds, int i)
{
	if (i < 0)
		return DT_NOBEGIN;
	if (i >= bounds->ndatums)
		return DT_NOEND;
	if (bounds->kind[i][0] != PARTITION_RANGE_DATUM_VALUE)
		return bounds->kind[i][0] == PARTITION_RANGE_DATUM_MINVALUE ? DT_NOBEGIN : DT_NOEND;
	return DatumGetTimestampTz(bounds->datums[i][0]);
}

/* The partition with a time in its range, or the gap. */
static Span
find_span(Relation history, TimestampTz at)
{
	PartitionDesc desc = RelationGetPartitionDesc(history, false);
	Span		span = {DT_NOBEGIN, DT_NOEND, InvalidOid};
	int			i = 0;

	if (desc->nparts == 0)
		return span;
	while (i < desc->boundinfo->ndatums && bound_time(desc->boundinfo, i) <= at)
		i++;
	span.from_at = bound_time(desc->boundinfo, i - 1);
	span.to_at = bound_time(desc->boundinfo, i);
	if (desc->boundinfo->indexes[i] >= 0)
		span.partition = desc->oids[desc->boundinfo->indexes[i]];
	return span;
}

/* The length of a new partition. */
static int
partition_days(void)
{
	int64		days = ps_history_tracked()->retention_us / USECS_PER_DAY;

	return days <= 31 ? 1 : days <= 366 ? 7 : 30;
}

/* Makes the partition for a time in a gap. */
static void
make_partition(const Span *gap, TimestampTz at)
{
	int64		length = partition_days() * USECS_PER_DAY;
	TimestampTz from_at = at - ((at % length) + length) % length;
	TimestampTz to_at = Min(from_at + length, gap->to_at);
	Datum		args[2];

	from_at = Max(from_at, gap->from_at);
	args[0] = DateADTGetDatum(from_at / USECS_PER_DAY);
	args[1] = DateADTGetDatum(to_at / USECS_PER_DAY);
	(void) ps_plan_run(&make_plan, args, NULL, SPI_OK_SELECT);
	SPI_freetuptable(SPI_tuptable);
	PS_FAILPOINT("history_part");
}

void
ps_history_cover(const TimestampTz *times, int n)
{
	Oid			relid = ps_own_table(false, "profile_history");

	for (int i = 0; i < n; i++)
	{
		Relation	history = table_open(relid, RowExclusiveLock);
		Span		span = find_span(history, times[i]);

		table_close(history, NoLock);
		if (OidIsValid(span.partition))
			continue;
		/* attaching takes this lock too; another process may have made the partition before we had it */
		LockRelationOid(relid, ShareUpdateExclusiveLock);
		history = table_open(relid, NoLock);
		span = find_span(history, times[i]);
		table_close(history, NoLock);
		if (!OidIsValid(span.partition))
			make_partition(&span, times[i]);
	}
}

/* The partitions whose range is before a moment. */
static List *
find_expired(Oid relid, TimestampTz before)
{
	Relation	history = table_open(relid, AccessShareLock);
	PartitionDesc desc = RelationGetPartitionDesc(history, false);
	List	   *expired = NIL;

	for (int i = 0; desc->nparts > 0 && i < desc->boundinfo->ndatums && bound_time(desc->boundinfo, i) <= before; i++)
		if (desc->boundinfo->indexes[i] >= 0)
			expired = lappend_oid(expired, desc->oids[desc->boundinfo->indexes[i]]);
	table_close(history, NoLock);
	return expired;
}

/* Locks a table until the transaction ends; false: somebody uses it. */
static bool
lock_alone(Oid relid, bool wait)
{
	if (!wait)
		return ConditionalLockRelationOid(relid, AccessExclusiveLock);
	LockRelationOid(relid, AccessExclusiveLock);
	return true;
}

bool
ps_history_drop(TimestampTz before, bool wait)
{
	Oid			relid = ps_own_table(false, "profile_history");
	List	   *expired = find_expired(relid, before);
	ListCell   *cell;
	bool		all = true;

	if (expired == NIL)
		return true;
	if (!lock_alone(relid, wait))
		return false;
	foreach(cell, expired)
	{
		ObjectAddress partition = {RelationRelationId, lfirst_oid(cell), 0};

		if (lock_alone(partition.objectId, wait))
			performDeletion(&partition, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
		else
			all = false;
	}
	return all;
}

bool
ps_history_prune(TimestampTz now)
{
	const PsTracked *tracked = ps_history_tracked();

	return tracked->nnames == 0 || ps_history_drop(now - tracked->retention_us, false);
}
