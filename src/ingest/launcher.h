/*
 * launcher.h
 *	  Starts every database's streams when the server starts.
 */
#ifndef PS_LAUNCHER_H
#define PS_LAUNCHER_H

/* Registers the launcher, when the library is being preloaded. */
extern void ps_launcher_register(void);

/* Starts the enabled streams of this database that have no worker; returns how many. Needs SPI. */
extern int	ps_launcher_start_streams(void);

#endif							/* PS_LAUNCHER_H */
