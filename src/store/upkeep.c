/*
 * upkeep.c
 *	  What retention takes: event ids, dead letters. Called by a worker between
 *	  batches, a small step at a time; rows that somebody holds are left for the
 *	  next round, so that a step waits for nobody.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "storage/itemptr.h"
#include "store/plan.h"
#include "store/upkeep.h"
#include "utils/timestamp.h"

static PsPlan size_plan = {
	"SELECT pg_catalog.pg_relation_size('profile_stream.event_ids') / pg_catalog.current_setting('block_size')::int8,"
	" (EXTRACT(epoch FROM GREATEST(pg_catalog.max(s.dedupe_retention), '7 days')) * 1000000)::int8"
	" FROM profile_stream.streams s",
	0, {0}
};

/* by pages, so that no index on seen_at is needed, which every event would pay for */
static PsPlan forget_plan = {
	"DELETE FROM profile_stream.event_ids e WHERE e.ctid = ANY (ARRAY("
	" SELECT x.ctid FROM profile_stream.event_ids x"
	" WHERE x.ctid >= $1 AND x.ctid < $2 AND x.seen_at <= $3 FOR UPDATE SKIP LOCKED))",
	3, {TIDOID, TIDOID, TIMESTAMPTZOID}
};

static PsPlan discard_plan = {
	"DELETE FROM profile_stream.dead_letters d WHERE d.dead_letter_id = ANY (ARRAY("
	" SELECT x.dead_letter_id FROM profile_stream.dead_letters x WHERE x.dead_at < $1"
	" ORDER BY x.dead_letter_id LIMIT $2 FOR UPDATE SKIP LOCKED))",
	2, {TIMESTAMPTZOID, INT8OID}
};

void
ps_upkeep_event_ids(PsEventIdSweep *sweep)
{
	bool		isnull;

	(void) ps_plan_run(&size_plan, NULL, NULL, SPI_OK_SELECT);
	sweep->npages = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	sweep->retention_us = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	SPI_freetuptable(SPI_tuptable);
}

uint64
ps_upkeep_forget(BlockNumber page, int npages, TimestampTz before)
{
	ItemPointerData from;
	ItemPointerData to;
	Datum		args[3];

	ItemPointerSet(&from, page, 0);
	ItemPointerSet(&to, page + npages, 0);
	args[0] = PointerGetDatum(&from);
	args[1] = PointerGetDatum(&to);
	args[2] = TimestampTzGetDatum(before);
	return ps_plan_run(&forget_plan, args, NULL, SPI_OK_DELETE);
}

uint64
ps_upkeep_discard(TimestampTz before, int limit)
{
	Datum		args[2] = {TimestampTzGetDatum(before), Int64GetDatum(limit)};

	return ps_plan_run(&discard_plan, args, NULL, SPI_OK_DELETE);
}
