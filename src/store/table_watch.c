/*
 * table_watch.c
 *	  Listens to the invalidations of relations. Whatever changes a watched table sends
 *	  one.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "store/owner.h"
#include "store/relation_changes.h"
#include "store/table_watch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

static PsTableWatch *watches = NULL;

static void
table_watch_relation_changed(Oid relid)
{
	for (PsTableWatch *watch = watches; watch != NULL; watch = watch->next)
	{
		watch->stale |= relid == InvalidOid;
		for (int i = 0; i < watch->ntables; i++)
			watch->stale |= relid == watch->relids[i];
	}
}

static void
table_watch_transaction_ended(XactEvent event, void *arg)
{
	for (PsTableWatch *watch = watches; watch != NULL; watch = watch->next)
	{
		watch->stale |= watch->stale_at_end;
		watch->stale_at_end = false;
	}
}

/* Begins to watch, and finds the tables again: the extension may have been dropped and created since. */
static void
table_watch_begin(PsTableWatch *watch)
{
	Assert(watch->ntables <= PS_MAX_WATCHED_TABLES);
	if (watches == NULL)
	{
		ps_on_relation_change(table_watch_relation_changed);
		RegisterXactCallback(table_watch_transaction_ended, NULL);
	}
	if (!watch->begun)
	{
		watch->next = watches;
		watches = watch;
	}
	watch->begun = true;
	for (int i = 0; i < watch->ntables; i++)
		watch->relids[i] = ps_own_table(false, watch->tables[i]);
}

/* The caller's snapshot may be older than the change, but a parallel query cannot take another one: then it reads again later. */
static void
table_watch_push_snapshot(PsTableWatch *watch)
{
	watch->stale_at_end = IsInParallelMode();
	PushActiveSnapshot(watch->stale_at_end ? GetActiveSnapshot() : GetLatestSnapshot());
}

/* Reads the tables with the owner's rights: a caller may use what they say without the right to read them. */
static const void *
read_as_owner(PsTableWatch *watch, MemoryContext context)
{
	PsSavedUser saved;
	const void *content;

	SPI_connect();
	table_watch_push_snapshot(watch);
	saved = ps_switch_to_owner();
	MemoryContextSwitchTo(context);
	content = watch->read();
	ps_restore_user(saved);
	PopActiveSnapshot();
	SPI_finish();
	return content;
}

void
ps_table_watch_read(PsTableWatch *watch)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(caller, "profile_stream tables", ALLOCSET_SMALL_SIZES);

	MemoryContextSetIdentifier(context, watch->tables[0]);
	watch->stale = false;		/* set before reading: a change from here on must make it stale again */
	PG_TRY();
	{
		table_watch_begin(watch);
		watch->content = read_as_owner(watch, context);
	}
	PG_CATCH();
	{
		watch->stale = true;
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	if (watch->context != NULL)
		MemoryContextSetParent(watch->context, TopTransactionContext);
	MemoryContextSetParent(context, TopMemoryContext);
	watch->context = context;
}
