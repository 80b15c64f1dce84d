/*
 * slice.c
 *	  The SQL of prune_slice(). It reads all profiles once.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/locks.h"
#include "store/plan.h"
#include "store/rebuild_catalog.h"
#include "store/slice.h"

#define MOVED "profile_stream.kafka_partition(t.customer_id, $2, $3) <> ALL ($1)"

static const char pending_sql[] =
"SELECT FROM profile_stream_internal.outbox UNION ALL SELECT FROM profile_stream_internal.sink_pending LIMIT 1";

/* the profiles last: how many of them is the result */
static const char *const prune_sql[] = {
	"DELETE FROM profile_stream_internal.event_id_chunks t WHERE " MOVED,
	"DELETE FROM profile_stream_internal.window_chunks t WHERE " MOVED,
	"DELETE FROM profile_stream_internal.profile_history t WHERE " MOVED,
	"DELETE FROM profile_stream_internal.segment_checks t WHERE " MOVED,
	"DELETE FROM profile_stream_internal.seeds t WHERE " MOVED,
	"DELETE FROM profile_stream.segment_members t WHERE " MOVED,
	"DELETE FROM profile_stream.segment_changes t WHERE " MOVED,
	"DELETE FROM profile_stream.materialized_profiles t WHERE " MOVED
};

static void
slice_refuse(const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("customers of other servers cannot be removed: %s", why),
			 errhint("%s", hint)));
}

int64
ps_slice_prune(Datum keep, Datum npartitions, Datum partitioner)
{
	static const Oid types[3] = {INT4ARRAYOID, INT4OID, TEXTOID};
	Datum		args[3] = {keep, npartitions, partitioner};
	uint64		removed = 0;

	ps_lock_copy(false, ShareRowExclusiveLock);
	if (ps_rebuild_find(0) != NULL)
		slice_refuse("a rebuild has them, too", "End it with swap_rebuild() or cancel_rebuild().");
	if (ps_plan_run_once(pending_sql, 0, NULL, NULL, false) > 0)
		slice_refuse("a sink would delete them", "Wait until backlog is 0 in stat_sinks, or take the sink from its stream with alter_stream().");
	for (int i = 0; i < lengthof(prune_sql); i++)
		removed = ps_plan_run_once(prune_sql[i], lengthof(types), types, args, false);
	return (int64) removed;
}
