/*
 * locked_rows.c
 *	  Customers whose rows other transactions hold. Loading their profiles tells
 *	  whether a row is free again. Applying their events would tell it too, but would
 *	  leave dead rows behind each time.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "ingest/locked_rows.h"
#include "ingest/transaction.h"
#include "store/locks.h"
#include "store/profile_store.h"
#include "utils/snapmgr.h"

#define MAX_PROBED 200			/* customers at a time */

int
ps_locked_rows_count(const PsApplyItem *items, int n)
{
	int			locked = 0;

	for (int i = 0; i < n; i++)
		locked += items[i].row_holder != 0;
	return locked;
}

void
ps_locked_rows_probe(PsWorker *worker)
{
	PsStoredProfile **profiles = palloc(MAX_PROBED * sizeof(PsStoredProfile *));
	int			n = ps_waiting_locked_rows(worker->waiting, MAX_PROBED, profiles);
	PsProfileTable *table;

	if (n == 0)
		return;
	ps_worker_begin(worker);
	ps_lock_tables();
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	table = ps_profiles_open();
	ps_profiles_load(table, profiles, n);
	ps_profiles_close(table);
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
	MemoryContextSwitchTo(worker->batch_context);
	ps_waiting_rows_probed(worker->waiting, profiles, n);
}
