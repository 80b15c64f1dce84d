/*
 * lock_wait.h
 *	  Waits for locks of any kind: none is without a bound, and whoever waited too
 *	  long says for what, and who has it.
 */
#ifndef PS_LOCK_WAIT_H
#define PS_LOCK_WAIT_H

#include "postgres.h"

#include "storage/lock.h"

#define PS_WAIT_MS 1000			/* of a process of ours for one lock */
#define PS_SESSION_WAIT_MS 10000	/* of a function that somebody calls */

/* Bounds all waits of this process from now on. */
extern void ps_lock_wait_bound_process(void);

/* Bounds those of a session, which may have a lower bound itself, and undoes that; an error in between has to come by ps_lock_wait_rethrow(). */
extern int	ps_lock_wait_bound(int ms);
extern void ps_lock_wait_free(int nest_level);

/* In PG_CATCH(): raises the error again; that of a wait tells who has what was waited for. */
extern void ps_lock_wait_rethrow(const char *what, MemoryContext context);

/*
 * After a caught error has aborted the transaction: when a wait had come to its
 * end, the message says what was waited for, who has it and since when.
 */
extern bool ps_lock_wait_explain(ErrorData *error);

/* What was waited for is had: the next wait is another one. */
extern void ps_lock_wait_over(void);

/* The process whose transaction that is, PS_PREPARED when none has it; and in words. */
#define PS_PREPARED (-1)
extern int	ps_lock_wait_holder(TransactionId xid);
extern const char *ps_lock_wait_holder_name(int holder);

/* A lock in words, which needs a transaction; and who keeps others from a mode of it, NULL when nobody does but that process. */
extern char *ps_lock_wait_describe(const LOCKTAG *tag, LOCKMODE mode);
extern char *ps_lock_wait_holders(const LOCKTAG *tag, LOCKMODE mode, int pid);

#endif							/* PS_LOCK_WAIT_H */
