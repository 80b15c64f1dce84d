/*
 * locks.h
 *	  Locks that last until the end of the transaction: of the extension's tables, and
 *	  an advisory lock of each customer.
 */
#ifndef PS_LOCKS_H
#define PS_LOCKS_H

#include "postgres.h"

#include "storage/lockdefs.h"

/* The key of a customer's lock: a hash of the id. */
extern int64 ps_lock_key(const char *customer_id, int len);

/* Takes the locks of sorted keys. The same order everywhere prevents deadlocks. */
extern void ps_lock_customers(const int64 *sorted_keys, int n);

/*
 * The same, but waits at most so long for all locks together; had[i] tells which
 * were taken. It polls instead of waiting in a queue, so that it is part of no
 * deadlock.
 */
extern void ps_lock_customers_within(const int64 *sorted_keys, int n, int wait_ms, bool *had);

/* The same for customers in any order. */
extern void ps_lock_ids_within(const char *const *customer_ids, int n, int wait_ms, bool *had);

/* Whether the lock of a key is free at this moment. Needs no transaction. */
extern bool ps_lock_is_free(int64 key);

/* The process that holds the lock of a key; 0: none, or a prepared transaction. */
extern int	ps_lock_holder(int64 key);

/*
 * Keeps the extension from being dropped until the end of the transaction. Who drops it
 * locks it before its tables. So a transaction that takes this lock first may open
 * tables in any order, and gets into no deadlock with DROP EXTENSION or DROP OWNED.
 */
extern void ps_lock_extension(void);

/*
 * Locks all tables that a worker uses, or none when one does not exist. It waits
 * only while it holds none of them, so that ALTER TABLE never gets into a deadlock
 * with a worker.
 */
extern void ps_lock_tables(void);

/* Likewise the tables with definitions of streams. Locks on other tables do not keep a worker from reading these. */
extern void ps_lock_definitions(LOCKMODE mode);

/* Likewise the tables that a refresh of scores and segments uses. */
extern void ps_lock_score_tables(void);

/* Likewise the given tables, in a mode. */
extern void ps_lock_all(const char *const *names, int n, LOCKMODE mode);

/*
 * Locks the tables that a stream fills, or those of the rebuild schema, in a mode
 * that conflicts with applying. While it waits it holds at most one of them, the
 * one for which it waited last: so a constant flow of appliers cannot starve it.
 */
extern void ps_lock_copy(bool in_rebuild, LOCKMODE mode);

/*
 * Locks event_id_chunks, by which swap_rebuild() and forget_customer() know that somebody
 * applies. It is the first table that applying locks, before it reads any.
 */
extern void ps_lock_applying(void);

/*
 * Whether all transactions have ended that were applying when this was first called with
 * that number. It keeps nobody from beginning to apply.
 */
extern bool ps_lock_appliers_are_gone(uint32 number);

/* The number of locks for which the cluster's lock table has room. */
extern int	ps_lock_table_size(void);

#endif							/* PS_LOCKS_H */
