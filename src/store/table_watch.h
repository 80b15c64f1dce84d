/*
 * table_watch.h
 *	  Tells when tables of the extension have changed, so that what was read of them is
 *	  read again.
 */
#ifndef PS_TABLE_WATCH_H
#define PS_TABLE_WATCH_H

#include "postgres.h"

#define PS_MAX_WATCHED_TABLES 8

typedef struct PsTableWatch
{
	const char *const *tables;	/* of the schema of parts */
	int			ntables;		/* at most PS_MAX_WATCHED_TABLES */
	bool		stale;			/* the caller sets it to false before it reads, because a change may come meanwhile */
	bool		stale_at_end;	/* read again after this transaction */
	bool		registered;
	Oid			relids[PS_MAX_WATCHED_TABLES];
} PsTableWatch;

/* Begins to watch, and finds the tables again: the extension may have been dropped and created since. */
extern void ps_table_watch_begin(PsTableWatch *watch);

/*
 * Pushes the snapshot to read the tables with. The caller's may be older than the
 * change, but a parallel query cannot take another one: then it reads again later.
 */
extern void ps_table_watch_push_snapshot(PsTableWatch *watch);

#endif							/* PS_TABLE_WATCH_H */
