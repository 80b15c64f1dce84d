/*
 * lease.h
 *	  Who runs a stream and who reads a partition: session-level advisory locks
 *	  of a space of our own, free at once when their holder is gone.
 */
#ifndef PS_LEASE_H
#define PS_LEASE_H

#include "postgres.h"

#define PS_MAX_WORKERS 64		/* of a stream */
#define PS_LEASE_WORKER(number) (0xFFFFFFFF - (uint32) (number))	/* in place of a partition: a worker of the stream */

/* A rebuild has leases of its own; in its process every stream stands for its rebuild. */
#define PS_LEASE_OF_REBUILD(stream_id) ((int) ((uint32) (stream_id) | 0x80000000))

#define PS_LEASE_REFRESH 0, 1	/* of no stream: one refresh of scores a database */

/* Takes a lease, if nobody else holds it; what one holds already is not taken twice. */
extern bool ps_lease_take(int stream_id, uint32 what);
extern void ps_lease_release(int stream_id, uint32 what);

/* Waits for the lease of a worker; false when its holder does not leave. */
extern bool ps_lease_become_worker(int stream_id, int number);

/* Whether a worker runs. */
extern bool ps_lease_has_worker(int stream_id, int number);

/* Waits until no worker of the stream runs, and keeps them out until the caller's transaction ends; false when one stays. */
extern bool ps_lease_bar_workers(int stream_id);

/* How many workers of all streams of all databases run. */
extern int	ps_lease_count_workers(void);

/* Pids of the workers, relays and rebuilds that run in other databases; at most max. */
extern int	ps_lease_processes_elsewhere(int *pids, int max);

/* Keeps other workers of the stream from adding partitions until the caller's transaction ends. */
extern void ps_lease_lock_partitions(int stream_id);

/*
 * Bars the stream's workers and relays from starting, and from changing anything,
 * until the caller's transaction ends: a worker is registered before that commits,
 * so that a missing slot can still be recorded. What is under way may end; whoever
 * hangs in it is cancelled, and when it waits for a standby, the caller does not.
 */
extern void ps_lease_hold_back(int stream_id);

/* Waits until nobody holds the workers back, and until its transaction ends nobody can; needs a transaction. */
extern void ps_lease_wait_start(int stream_id);

/* Lets others find the segment that a process reports in. */
extern void ps_lease_publish(int stream_id, uint32 handle);
extern void ps_lease_unpublish(int stream_id, uint32 handle);

/* Spaces of advisory locks, as pg_locks shows them in objsubid; store/locks.c has 5. */
#define PS_SPACE_LEASE 3
#define PS_SPACE_STARTING 4
#define PS_SPACE_REPORT 6

#endif							/* PS_LEASE_H */
