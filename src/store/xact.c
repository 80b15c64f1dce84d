/*
 * xact.c
 *	  Begins and ends transactions and subtransactions of our processes, and sets
 *	  parameters within them.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "store/xact.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

/* PostgreSQL sets the time of now() for commands of clients only. */
void
ps_transaction_start(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
}

void
ps_spi_begin(void)
{
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
ps_spi_end(void)
{
	PopActiveSnapshot();
	SPI_finish();
}

void
ps_begin(void)
{
	ps_transaction_start();
	ps_spi_begin();
}

void
ps_commit(void)
{
	ps_spi_end();
	CommitTransactionCommand();
}

PsSubxact
ps_subxact_begin(void)
{
	PsSubxact	outside = {CurrentMemoryContext, CurrentResourceOwner};

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(outside.context);
	return outside;
}

void
ps_subxact_end(PsSubxact outside, bool commit)
{
	if (commit)
		ReleaseCurrentSubTransaction();
	else
		RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(outside.context);
	CurrentResourceOwner = outside.owner;
}

static void
set_guc(const char *name, const char *value, GucAction action)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, action, true, 0, false);
}

void
ps_guc_set_local(const char *name, const char *value)
{
	set_guc(name, value, GUC_ACTION_LOCAL);
}

void
ps_guc_set_nested(const char *name, const char *value)
{
	set_guc(name, value, GUC_ACTION_SAVE);
}
