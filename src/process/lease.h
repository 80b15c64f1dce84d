/*
 * lease.h
 *	  Leases: session-level advisory locks that say which process is a worker or relay of
 *	  a stream, and which worker reads a partition. PostgreSQL frees the lock when the
 *	  process ends, however it ends.
 */
#ifndef PS_LEASE_H
#define PS_LEASE_H

#include "postgres.h"

#include "storage/lock.h"
#include "store/stream.h"


/* The key of a worker or relay; partitions have their number. lease_holder() reads it back for the view stream_leases. */
#define PS_LEASE_WORKER(number) (0xFFFFFFFF - (uint32) (number))

/* A rebuild has leases of its own. In its process all calls take those in place of the stream's. */
#define PS_LEASE_OF_REBUILD(stream_id) ((int) ((uint32) (stream_id) | 0x80000000))

#define PS_LEASE_REFRESH 0, 1	/* one refresh of scores in a database; 0 is no stream */
#define PS_LEASE_SCANNER 0, 2	/* one scanner that waits for ALTER EXTENSION in a database */

/* Takes a lease; false when another process has it. To take it again is no error. */
extern bool ps_lease_take(int stream_id, uint32 what);
extern void ps_lease_release(int stream_id, uint32 what);

/* Takes the lease of a worker for this process; waits for its predecessor. False when that does not leave. */
extern bool ps_lease_become_worker(int stream_id, int number);

/* Whether the worker or relay of that number runs. */
extern bool ps_lease_has_worker(int stream_id, int number);

/* Waits until no worker of the stream runs, and bars them until the transaction ends; false when one stays. */
extern bool ps_lease_bar_workers(int stream_id);

/*
 * The next process that has an advisory lock of a space (below), from a place on, which
 * moves behind it; NULL: there is none. The lock is of any database.
 */
extern const LockInstanceData *ps_lease_next(const LockData *locks, int *place, uint16 space);

/* How many workers run in all databases. */
extern int	ps_lease_count_workers(void);

/* Pids of the workers, relays and rebuilds that run in other databases; at most max. */
extern int	ps_lease_processes_elsewhere(int *pids, int max);

/* Bars other workers of the stream from adding partitions until the transaction ends. */
extern void ps_lease_lock_partitions(int stream_id);

/*
 * Bars the stream's workers and relays from starting, and from changing anything, until
 * the caller's transaction ends. A worker is registered before the commit, so that a
 * missing slot can still be recorded, and must not begin before it.
 *
 * Waits for transactions that are under way, and cancels those that take too long. When
 * one of them waits for a synchronous standby, the caller's commit will not.
 */
extern void ps_lease_hold_back(int stream_id);

/* Waits while ps_lease_hold_back() bars the stream, and keeps others from it until the transaction ends. */
extern void ps_lease_wait_start(int stream_id);

/* Makes the handle of a memory segment of this process known, in the space that says what it holds; and takes that back. */
extern void ps_lease_publish(int stream_id, uint32 handle, uint16 space);
extern void ps_lease_unpublish(int stream_id, uint32 handle, uint16 space);

/* Spaces of advisory locks, as pg_locks shows them in objsubid; store/locks.c has 5 and 7. */
#define PS_SPACE_LEASE 3
#define PS_SPACE_STARTING 4
#define PS_SPACE_REPORT 6		/* ingest/report.h */
#define PS_SPACE_METER 8		/* meter.h */

#endif							/* PS_LEASE_H */
