/*
 * lock_wait.h
 *	  Bounds all waits for locks. The error of a wait that took too long tells the lock
 *	  and its holder.
 */
#ifndef PS_LOCK_WAIT_H
#define PS_LOCK_WAIT_H

#include "postgres.h"

#include "storage/lock.h"

#define PS_WAIT_MS 1000			/* how long our processes wait for one lock */
#define PS_SESSION_WAIT_MS 10000	/* how long functions that users call wait */

/* Bounds all waits of this process, from now on. */
extern void ps_lock_wait_bound_process(void);

/*
 * Bounds the waits of a session, unless its own lock_timeout is lower; and undoes
 * that. An error in between must go through ps_lock_wait_rethrow().
 */
extern int	ps_lock_wait_bound(int ms);
extern void ps_lock_wait_free(int nest_level);

/* Raises the error again, in PG_CATCH(). The error of a wait then names the holder of the lock. */
extern void ps_lock_wait_rethrow(const char *what, MemoryContext context);

/*
 * To be called after a caught error has aborted the transaction. When it is the
 * error of a wait, its message becomes: the lock, the holder, and since when we
 * wait. Returns whether it is.
 */
extern bool ps_lock_wait_explain(ErrorData *error);

/* To be called once a lock is granted: the next wait then counts its own time. */
extern void ps_lock_wait_over(void);

/* The process of a transaction; PS_PREPARED: it is prepared, and no process has it. */
#define PS_PREPARED (-1)
extern int	ps_lock_wait_holder(TransactionId xid);

/* The same as text. */
extern const char *ps_lock_wait_holder_name(int holder);

/* A lock as text. Needs a transaction. */
extern char *ps_lock_wait_describe(const LOCKTAG *tag, LOCKMODE mode);

/* The other processes that keep a process from a mode of a lock, as text; NULL: there are none. */
extern char *ps_lock_wait_holders(const LOCKTAG *tag, LOCKMODE mode, int pid);

#endif							/* PS_LOCK_WAIT_H */
