/*
 * deferred_rows.c
 *	  Customers whose rows somebody keeps: found when their profiles are loaded,
 *	  and asked for by themselves until they are free. A try that found out by
 *	  applying would leave dead rows behind each time.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "ingest/worker.h"
#include "store/locks.h"
#include "store/profile_store.h"
#include "utils/snapmgr.h"

#define MAX_PROBED 200			/* customers at a time */

int
ps_deferred_count_rows(const PsApplyItem *items, int n)
{
	int			kept = 0;

	for (int i = 0; i < n; i++)
		kept += items[i].holder != 0;
	return kept;
}

void
ps_deferred_probe_rows(PsWorker *worker)
{
	PsStoredProfile **profiles = palloc(MAX_PROBED * sizeof(PsStoredProfile *));
	int			n = ps_deferred_rows(worker->aside, MAX_PROBED, profiles);

	if (n == 0)
		return;
	ps_worker_begin(worker);
	ps_lock_tables();
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	ps_profiles_load(profiles, n);
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
	MemoryContextSwitchTo(worker->batch_context);
	ps_deferred_rows_probed(worker->aside, profiles, n);
}
