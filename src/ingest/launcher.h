/*
 * launcher.h
 *	  Starts the streams of every database when the server starts.
 */
#ifndef PS_LAUNCHER_H
#define PS_LAUNCHER_H

#include "postgres.h"

#include "store/stream_catalog.h"

/* Registers the launcher while the library is being preloaded. */
extern void ps_launcher_register(void);

/* Starts the enabled streams of this database that have no worker; returns how many. Needs SPI. */
extern int	ps_launcher_start_streams(void);

/* Whether this database has the extension. */
extern bool ps_launcher_has_extension(void);

/* Starts a worker or relay again that could not connect so many times, if it is still wanted. Needs SPI. */
extern void ps_launcher_start_again(int stream_id, int number, bool rebuild, int tries);

/* Whether a database exists; sets *open to whether it takes connections. For a process without a database. */
extern bool ps_launcher_find_database(Oid database, bool *open);

/* Starts the stream's workers and relays, all or those that do not run; returns how many workers. Warns when no slot is free. */
extern int	ps_workers_start(const PsStream *stream, Oid owner, bool all);

/* Starts a rebuild's worker; false when no slot is free. */
extern bool ps_rebuild_register(int stream_id, Oid owner, int tries);

#endif							/* PS_LAUNCHER_H */
