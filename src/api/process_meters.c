/*
 * process_meters.c
 *	  What workers and relays measure of themselves over the last minute, for the
 *	  monitoring views: of each process, or of all workers of a stream together. A
 *	  process that has ended has no row.
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "process/bgworker.h"
#include "process/lease.h"
#include "process/meter.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#define OF_WORKERS (-1)			/* in place of the kind of a relay */

typedef struct Measured
{
	uint32		stream_id;		/* as in the lock: of a rebuild, with its bit */
	int			relay;			/* PsSinkKind, or OF_WORKERS */
	int			number;			/* of the last process that was added */
	int			pid;
	PsMeterSum	sum;
} Measured;

/* The place of a process in the list, which may be shared with others of its kind. */
static Measured *
measured_find(List **list, uint32 stream_id, int relay, bool merged)
{
	Measured   *measured;
	ListCell   *cell;

	foreach(cell, *list)
	{
		measured = lfirst(cell);
		if (merged && measured->stream_id == stream_id && measured->relay == relay)
			return measured;
	}
	measured = palloc0(sizeof(Measured));
	measured->stream_id = stream_id;
	measured->relay = relay;
	*list = lappend(*list, measured);
	return measured;
}

/* Reads the meters of all processes of this database. */
static List *
meters_measure(bool merged)
{
	LockData   *locks = GetLockStatusData();
	TimestampTz now = GetCurrentTimestamp();
	const LockInstanceData *lock;
	List	   *list = NIL;
	int			place = 0;

	while ((lock = ps_lease_next(locks, &place, PS_SPACE_METER)) != NULL)
	{
		bool		ours;
		dsm_segment *segment;
		const PsMeter *meter;
		Measured   *measured;

		if (lock->locktag.locktag_field1 != MyDatabaseId || (segment = ps_segment_open(lock->locktag.locktag_field3, &ours)) == NULL)
			continue;
		meter = dsm_segment_address(segment);
		measured = measured_find(&list, lock->locktag.locktag_field2,
								 meter->number < PS_RELAY_NUMBER(0) ? OF_WORKERS : meter->number - PS_RELAY_NUMBER(0), merged);
		measured->number = meter->number;
		measured->pid = lock->pid;
		ps_meter_add(&measured->sum, meter, now);
		ps_segment_close(segment, ours);
	}
	return list;
}

/* A number with so many decimals. */
static Datum
with_decimals(double number, double scale)
{
	return Float8GetDatum(rint(number * scale) / scale);
}

static Datum
as_seconds(double us)
{
	return with_decimals(us / USECS_PER_SEC, 1e6);
}

#define KIND_MEMBER(kind) appendStringInfo(&json, "%c\"" #kind "\": " INT64_FORMAT, json.len == 0 ? '{' : ',', batch->letters.kind);

/* Dead letters by kind, as an object. */
static Datum
letters_object(const PsMeterBatch *batch)
{
	StringInfoData json;

	initStringInfo(&json);
	PS_LETTER_KINDS(KIND_MEMBER,)
		appendStringInfoChar(&json, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/* The columns of process_meters(). */
enum
{
	STREAM_ID, RELAY, WORKER, PID, BEGUN, MEMORY, ITEMS, DONE, P50, P95, P99, SIZE_AVG, SIZE_MOST, TIME_AVG, TIME_MOST, LETTERS, NCOLUMNS
};

static void
put_row(ReturnSetInfo *rsinfo, const Measured *measured, bool merged)
{
	static const double shares[] = {0.5, 0.95, 0.99};
	const PsMeterPeriod *minute = &measured->sum.minute;
	Datum		values[NCOLUMNS] = {0};
	bool		nulls[NCOLUMNS] = {false};

	values[STREAM_ID] = Int64GetDatum(measured->stream_id);
	nulls[RELAY] = measured->relay == OF_WORKERS;
	if (!nulls[RELAY])
		values[RELAY] = CStringGetTextDatum(ps_sinks[measured->relay].name);
	nulls[WORKER] = merged || !nulls[RELAY];
	values[WORKER] = Int32GetDatum(measured->number);
	nulls[PID] = merged;
	values[PID] = Int32GetDatum(measured->pid);
	values[BEGUN] = TimestampTzGetDatum(measured->sum.begun);
	values[MEMORY] = Int64GetDatum(measured->sum.memory_bytes);
	values[ITEMS] = with_decimals(measured->sum.items_per_second, 10);
	values[DONE] = with_decimals(measured->sum.done_per_second, 10);
	for (int i = 0; i < lengthof(shares); i++)
	{
		int64		us = ps_histogram_percentile(minute->latency, shares[i]);

		nulls[P50 + i] = us < 0;
		values[P50 + i] = as_seconds(us);
	}
	nulls[SIZE_AVG] = nulls[SIZE_MOST] = nulls[TIME_AVG] = nulls[TIME_MOST] = minute->batches == 0;
	values[SIZE_AVG] = with_decimals((double) minute->sum.items / Max(minute->batches, 1), 10);
	values[SIZE_MOST] = Int64GetDatum(minute->most_items);
	values[TIME_AVG] = as_seconds((double) minute->sum.us / Max(minute->batches, 1));
	values[TIME_MOST] = as_seconds(minute->longest_us);
	values[LETTERS] = letters_object(&minute->sum);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(ps_process_meters);
Datum
ps_process_meters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		merged = PG_GETARG_BOOL(0);
	ListCell   *cell;
	List	   *list;

	InitMaterializedSRF(fcinfo, 0);
	list = meters_measure(merged);
	foreach(cell, list)
		put_row(rsinfo, lfirst(cell), merged);
	return (Datum) 0;
}
