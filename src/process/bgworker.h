/*
 * bgworker.h
 *	  What all background workers of the library share: their registration, and how they
 *	  connect to a database as a role.
 */
#ifndef PS_BGWORKER_H
#define PS_BGWORKER_H

#include "postgres.h"

#include "postmaster/bgworker.h"
#include "process/lease.h"

#define PS_RELAY_NUMBER(kind) (PS_MAX_WORKERS + (kind)) /* of the relay of a sink, behind those of workers */
#define PS_NO_SLOT_HINT "Raise max_worker_processes and restart the server. Once a slot is free, start_streams() is enough."

/* The parameters of a worker, a relay or a rebuild, in bgw_extra; bgw_main_arg is the stream_id. */
typedef struct PsProcess
{
	Oid			database;
	Oid			owner;
	int			number;			/* of a worker from 0; of a relay PS_RELAY_NUMBER() */
	bool		rebuild;
	int			tries;			/* so many before it could not connect */
	int			registered_at;	/* seconds since 1970 */
	int64		registration;	/* a number of its own, which a process has that the server starts again */
} PsProcess;

/* Why a process could not connect, in the bgw_extra of the starter. */
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

/* Fills in a registration. The process will not restart unless the caller sets that. */
extern void ps_bgworker_describe(BackgroundWorker *worker, const char *type, const char *function);

/* The registration of a scanner, which starts the streams of a database. */
extern void ps_bgworker_describe_scanner(BackgroundWorker *worker, Oid database);

/* Registers a worker, a relay or a rebuild; false when no slot is free. */
extern bool ps_bgworker_start(int stream_id, const PsProcess *process);

/* The parameters of this process. */
extern PsProcess ps_bgworker_process(void);

/*
 * Connects to the database as the role; false when the role is gone. If the connection
 * fails, the process ends for good: a starter shows why in stat_streams and tries again.
 */
extern bool ps_bgworker_connect(Oid database, Oid owner);

/*
 * Connects a starter to the database as a superuser. If that fails, it ends for good as
 * well, and another one waits without a database before it starts the worker again.
 */
extern void ps_bgworker_connect_starter(Oid database, const PsConnectFailure *why);

/* The name of a process in process_counters: of a relay its sink. */
extern const char *ps_bgworker_process_name(int number);

/* Names this process in pg_stat_activity: what it is, and for which stream; NULL: for none. */
extern void ps_bgworker_name(const char *what, const char *stream);

/* Overrides settings of the database that would change how statements work. */
extern void ps_bgworker_settings(void);

/* Registers a scanner of this database that may wait; false when no slot is free. */
extern bool ps_bgworker_start_scanner(void);

/*
 * Ends the process for good when the library and the objects are of different versions. A
 * scanner then shows that in stat_streams, waits until they agree, and starts the streams.
 */
extern void ps_bgworker_end_unless_matched(void);

/* Waits without a transaction. Ends the process when profile_stream.enabled is off: the launcher starts everything again. */
extern void ps_bgworker_wait(int64 wait_ms);

/* Ends the process for good when the role is gone, and shows that as the state of the stream. */
extern void ps_bgworker_end_if_ownerless(Oid owner, int stream_id);

#endif							/* PS_BGWORKER_H */
