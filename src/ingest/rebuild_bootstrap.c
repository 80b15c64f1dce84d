/*
 * rebuild_bootstrap.c
 *	  What the worker of a rebuild applies before it connects to Kafka: the seeds and
 *	  backfills of the database, in the order in which they were begun. The queries of
 *	  backfills run again, up to the row that is done in the profiles that are served.
 *
 *	  A turn of the worker's loop applies a batch, and stores how far it has come. So a
 *	  rebuild can be paused, and goes on after a restart.
 */
#include "postgres.h"

#include "access/xact.h"
#include "apply/backfill_batch.h"
#include "ingest/rebuild_bootstrap.h"
#include "ingest/transaction.h"
#include "ingest/worker_state.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "process/wait_event.h"
#include "settings.h"
#include "storage/latch.h"
#include "store/locks.h"
#include "store/owner.h"
#include "store/rebuild_catalog.h"
#include "store/stream_catalog.h"
#include "store/xact.h"
#include "utils/memutils.h"

#define BATCH 5000
#define FIRST_POLL_MS 100

static bool is_done = false;
static PsBackfillRows *rows = NULL; /* of the backfill that is begun, from the stored position on; NULL: to be read */
static bool in_turn = false;	/* still true in the next turn: this one failed, and rows are behind what is stored */

static void
close_rows(void)
{
	if (rows != NULL)
		ps_backfill_rows_close(rows);
	rows = NULL;
}

/* How many events a transaction applies: no more than the customers whose locks it may take. */
static int
batch_size(void)
{
	return Min(BATCH, ps_apply_max_customers(1));
}

/* Applies seeds up to the next backfill; false: there are none. */
static bool
apply_seeds(PsBootstrap *bootstrap, const PsBackfill *next)
{
	PsApplySettings settings = ps_apply_session_settings();
	int			max = batch_size();
	char	  **events = palloc(max * sizeof(char *));
	int64	   *ids = palloc(max * sizeof(int64));
	int			n = ps_bootstrap_seeds(bootstrap->id, next != NULL ? next->backfill_id : 0, max, events, ids);
	PsApplyItem *items = palloc(Max(n, 1) * sizeof(PsApplyItem));

	if (n == 0)
		return false;
	for (int i = 0; i < n; i++)
		ps_backfill_item(&items[i], events[i]);
	settings.classify_only = true;
	ps_backfill_apply_items(items, n, &settings);
	bootstrap->id = ids[n - 1];
	ps_bootstrap_set(bootstrap, n);
	return true;
}

/* Goes on to the next seeds or backfill, or ends. */
static void
go_on(PsBootstrap *bootstrap)
{
	PsBackfill *next = ps_bootstrap_backfill(bootstrap->id, true);

	if (apply_seeds(bootstrap, next))
		return;
	bootstrap->done = next == NULL;
	bootstrap->in_backfill = next != NULL;
	if (next != NULL)
		bootstrap->id = next->backfill_id;
	ps_bootstrap_set(bootstrap, 0);
}

/* The backfill that is begun has no more rows. */
static void
end_backfill(PsBootstrap *bootstrap)
{
	close_rows();
	bootstrap->in_backfill = false;
	memset(&bootstrap->position, 0, sizeof(PsBackfillPosition));
	ps_bootstrap_set(bootstrap, 0);
}

/* Applies the next batch of the backfill that is begun. */
static void
apply_rows(PsWorker *worker, PsBootstrap *bootstrap)
{
	PsBackfill *backfill = ps_bootstrap_backfill(bootstrap->id, false);
	PsStream   *stream = backfill == NULL ? NULL : ps_stream_find(NULL, backfill->stream_id);
	PsApplySettings settings;
	PsBackfillBatch batch;
	PsBackfillCounts counts;

	if (stream == NULL || backfill->position.event_id == NULL)
	{
		end_backfill(bootstrap);
		return;
	}
	if (rows == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(worker->context);

		rows = ps_backfill_rows_read(backfill, &bootstrap->position, &backfill->position);
		MemoryContextSwitchTo(caller);
	}
	if (!ps_backfill_read_batch(rows, backfill->name, batch_size(), &batch))
	{
		end_backfill(bootstrap);
		return;
	}
	settings = ps_backfill_settings(stream, true);
	ps_backfill_apply(&batch, &settings, &counts, &bootstrap->position);
	ps_bootstrap_set(bootstrap, counts.rows);
}

/* Whether this process applies seeds and backfills: of several streams the first one does. */
static bool
is_first(const PsWorker *worker)
{
	PsRebuild  *first = ps_rebuild_find(0);

	return first != NULL && first->stream_id == worker->stream_id;
}

/* A pause while the process of the first stream applies them. */
static void
wait_for_first(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, FIRST_POLL_MS, ps_wait_event(PS_WAIT_PREDECESSOR));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

bool
ps_rebuild_bootstrap(PsWorker *worker)
{
	PsBootstrap bootstrap;
	bool		ours;

	if (is_done)
		return false;
	if (in_turn)
		close_rows();
	in_turn = true;
	ps_worker_begin(worker);
	ps_check_may_run(GetUserId());
	ps_lock_tables();
	MemoryContextReset(worker->apply_context);
	ps_spi_begin();
	MemoryContextSwitchTo(worker->apply_context);
	ps_bootstrap_get(&bootstrap);
	ours = is_first(worker);
	if (!bootstrap.done && !ours)
		ps_worker_check_wanted(worker);
	else if (!bootstrap.done && bootstrap.in_backfill)
		apply_rows(worker, &bootstrap);
	else if (!bootstrap.done)
		go_on(&bootstrap);
	PS_FAILPOINT("bootstrap_applied");
	ps_commit();
	MemoryContextSwitchTo(worker->batch_context);
	in_turn = false;
	is_done = bootstrap.done;
	if (!is_done && ours)
		ps_worker_set_running(worker);
	else if (!is_done)
		wait_for_first();
	return !is_done;
}
