/*
 * bgworker.h
 *	  What the background workers of the library have in common: how they are
 *	  registered, and how they become a process of a database and of a role.
 */
#ifndef PS_BGWORKER_H
#define PS_BGWORKER_H

#include "postgres.h"

#include "postmaster/bgworker.h"
#include "process/lease.h"

#define PS_RELAY_NUMBER(kind) (PS_MAX_WORKERS + (kind)) /* in place of a worker's number: the relay of a sink */
#define PS_NO_SLOT_HINT "Raise max_worker_processes, then call start_streams()."

/* What a worker, a relay or a rebuild is started with: in bgw_extra; bgw_main_arg is the stream's number. */
typedef struct PsProcess
{
	Oid			database;
	Oid			owner;
	int			number;			/* from 0, among the stream's workers; PS_RELAY_NUMBER(): a relay */
	bool		rebuild;
	int			tries;			/* that could not connect before it */
	int			registered_at;	/* in seconds */
} PsProcess;

/* What a process that could not connect leaves, in the starter's bgw_extra. */
typedef struct PsConnectFailure
{
	int			stream_id;
	int			number;
	bool		rebuild;
	int			tries;			/* before this one */
	int			sqlerrcode;
	Oid			owner;
	char		message[BGW_EXTRALEN - 6 * sizeof(int)];
} PsConnectFailure;

/* Fills in what all background workers of the library share; they do not restart unless the caller says so. */
extern void ps_bgworker_describe(BackgroundWorker *worker, const char *type, const char *function);

/* Registers a worker, a relay or a rebuild; false when no slot is free. */
extern bool ps_bgworker_start(int stream_id, const PsProcess *process);

/* What this process was started with. */
extern PsProcess ps_bgworker_process(void);

/*
 * Becomes a process of this database and of a role; false: that role is gone. When
 * it cannot connect the process ends for good, and a starter says why in stat_streams
 * and tries again.
 */
extern bool ps_bgworker_connect(Oid database, Oid owner);

/* Overrides settings of the database or the role that would change what the process does. */
extern void ps_bgworker_settings(void);

/* Ends the process for good when that role is gone, and says so where the stream's state is shown. */
extern void ps_bgworker_end_if_ownerless(Oid owner, int stream_id);

#endif							/* PS_BGWORKER_H */
