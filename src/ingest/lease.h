/*
 * lease.h
 *	  Who runs a stream and who reads a partition: session-level advisory locks
 *	  of a space of our own, free at once when their holder is gone.
 */
#ifndef PS_LEASE_H
#define PS_LEASE_H

#include "postgres.h"

#define PS_LEASE_WORKER 0xFFFFFFFF	/* in place of a partition: the stream's worker */

/* Takes a lease, if nobody holds it. */
extern bool ps_lease_take(int stream_id, uint32 what);

/* Waits for the lease of the stream's worker; false when its holder does not leave. */
extern bool ps_lease_become_worker(int stream_id);

/* Whether a worker runs the stream. */
extern bool ps_lease_has_worker(int stream_id);

/*
 * Bars the stream's worker until the caller's transaction ends: it is registered
 * before that commits, so that a missing slot can still be recorded.
 */
extern void ps_lease_hold_back(int stream_id);

/* Waits until nobody holds the worker back; needs a transaction. */
extern void ps_lease_wait_start(int stream_id);

#endif							/* PS_LEASE_H */
