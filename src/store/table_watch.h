/*
 * table_watch.h
 *	  Keeps what was read of tables of the extension, and tells when they have changed.
 */
#ifndef PS_TABLE_WATCH_H
#define PS_TABLE_WATCH_H

#include "postgres.h"

#define PS_MAX_WATCHED_TABLES 8

typedef struct PsTableWatch
{
	const char *const *tables;	/* of the schema of parts */
	int			ntables;		/* at most PS_MAX_WATCHED_TABLES */
	const void *(*read) (void); /* makes the content in the current memory context; SPI is connected */
	bool		stale;			/* true at first */
	const void *content;		/* what read made last */
	MemoryContext context;		/* of the content */
	bool		stale_at_end;	/* read again after this transaction */
	Oid			relids[PS_MAX_WATCHED_TABLES];
	bool		begun;			/* is in the list of those that hear of changes */
	struct PsTableWatch *next;
} PsTableWatch;

/* Reads the tables. The content before stays until the end of the transaction, because callers may still use it. */
extern void ps_table_watch_read(PsTableWatch *watch);

#endif							/* PS_TABLE_WATCH_H */
