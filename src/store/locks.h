/*
 * locks.h
 *	  Locks of a transaction: the extension's tables, and an advisory lock per
 *	  customer, held until it ends.
 */
#ifndef PS_LOCKS_H
#define PS_LOCKS_H

#include "postgres.h"

#include "storage/lockdefs.h"

/* The key of a customer's lock: a hash of the id. */
extern int64 ps_lock_key(const char *customer_id, int len);

/* Takes the lock of every key, in the order given: callers sort. */
extern void ps_lock_customers(const int64 *sorted_keys, int n);

/*
 * The same, but waits at most so long for all of them together; had[i] says
 * whether the lock of a key is there. It never stands in a queue, so that nobody
 * who takes locks in the same order meets it in a deadlock.
 */
extern void ps_lock_customers_within(const int64 *sorted_keys, int n, int wait_ms, bool *had);

/* Whether nobody has the lock of a key at this moment; needs no transaction. */
extern bool ps_lock_is_free(int64 key);

/* A process that has the lock of a key; 0 when none has, or a prepared transaction. */
extern int	ps_lock_holder(int64 key);

/*
 * Locks all tables that a worker uses, or none when one is not there. It waits
 * only while it holds none: whoever drops the extension, or alters its tables,
 * never meets a worker in a deadlock.
 */
extern void ps_lock_tables(void);

/* Likewise those that say how a stream shall run: whoever keeps another one does not keep that from being read. */
extern void ps_lock_definitions(LOCKMODE mode);

/* Likewise all tables that a refresh of scores and segments uses. */
extern void ps_lock_score_tables(void);

/* Likewise all of these tables, in a mode. */
extern void ps_lock_all(const char *const *names, int n, LOCKMODE mode);

/*
 * Locks the tables that a stream fills, in one of their copies, in a mode that
 * keeps appliers out. It waits while it holds one at most: the one that it has
 * waited for last, so that no flow of appliers keeps it from the rest.
 */
extern void ps_lock_copy(bool shadow, LOCKMODE mode);

/* How many locks the cluster's lock table is sized for. */
extern int	ps_lock_table_size(void);

#endif							/* PS_LOCKS_H */
