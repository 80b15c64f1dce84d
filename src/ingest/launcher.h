/*
 * launcher.h
 *	  Starts every database's streams when the server starts.
 */
#ifndef PS_LAUNCHER_H
#define PS_LAUNCHER_H

#include "postgres.h"

/* Registers the launcher, when the library is being preloaded. */
extern void ps_launcher_register(void);

/* Starts the enabled streams of this database that have no worker; returns how many. Needs SPI. */
extern int	ps_launcher_start_streams(void);

/* Whether this database has the extension. */
extern bool ps_launcher_has_extension(void);

/* Starts one worker or relay that could not connect, after so many tries, if it shall still run. Needs SPI. */
extern void ps_launcher_start_again(int stream_id, int number, bool rebuild, int tries);

/* Whether a database exists; sets whether it takes connections. Without one, as the launcher is. */
extern bool ps_launcher_find_database(Oid database, bool *open);

/* Registers a worker or a relay of another database as it was registered before. */
extern void ps_launcher_register_again(Oid database, Oid owner, int stream_id, int number, bool rebuild);

#endif							/* PS_LAUNCHER_H */
