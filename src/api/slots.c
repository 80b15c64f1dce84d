/*
 * slots.c
 *	  The limit profile_stream.max_workers. The slots of background workers belong to the
 *	  whole server, so that roles other than superusers may take only a part of them.
 */
#include "postgres.h"

#include "api/caller.h"
#include "miscadmin.h"
#include "process/lease.h"
#include "settings.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"

/* Counts the workers and relays of other databases that do not belong to superusers. */
static int
count_elsewhere(void)
{
	int		   *pids = palloc(max_worker_processes * sizeof(int));
	int			n = ps_lease_processes_elsewhere(pids, max_worker_processes);
	int			count = 0;

	for (int i = 0; i < n; i++)
	{
		PGPROC	   *process = BackendPidGetProc(pids[i]);

		count += process != NULL && !superuser_arg(process->roleId);
	}
	return count;
}

void
ps_check_slots(const PsStream *stream, int rebuilds)
{
	int			limit = ps_max_workers >= 0 ? ps_max_workers : max_worker_processes / 2;
	Oid			streams = ps_own_table(false, "streams");
	int			taken;

	if (superuser_arg(stream->owner))
		return;
	LockRelationOid(streams, ShareUpdateExclusiveLock); /* one counts at a time */
	taken = ps_streams_count_processes(stream->stream_id) + count_elsewhere() + ps_stream_processes(stream) + rebuilds;
	if (taken > limit)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("stream \"%s\" would raise the background workers of streams to %d, and %d are allowed", stream->name, taken, limit),
				 errhint("Give it fewer workers or sinks, or pause another stream. A superuser can raise profile_stream.max_workers.")));
}
