/*
 * xact.h
 *	  Transactions and subtransactions of our processes, and parameters within them.
 */
#ifndef PS_XACT_H
#define PS_XACT_H

#include "postgres.h"

#include "utils/resowner.h"

/* Starts a transaction of a background process; now() is this moment. */
extern void ps_transaction_start(void);

/*
 * A transaction with an SPI connection and a snapshot. Where locks are taken
 * before the snapshot, so that it shows what was committed meanwhile:
 * ps_transaction_start(), the locks, ps_spi_begin(), …, ps_commit().
 */
extern void ps_begin(void);
extern void ps_commit(void);

/* The SPI connection and the snapshot alone, within the transaction that is under way. */
extern void ps_spi_begin(void);
extern void ps_spi_end(void);

/* Where a subtransaction began; its end returns there. */
typedef struct PsSubxact
{
	MemoryContext context;
	ResourceOwner owner;
} PsSubxact;

extern PsSubxact ps_subxact_begin(void);
extern void ps_subxact_end(PsSubxact outside, bool commit);

/* Sets a parameter for the rest of the transaction, as SET LOCAL does. */
extern void ps_guc_set_local(const char *name, const char *value);

/* Sets a parameter until the GUC nest level of the caller ends, with AtEOXact_GUC(). */
extern void ps_guc_set_nested(const char *name, const char *value);

#endif							/* PS_XACT_H */
