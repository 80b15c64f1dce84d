/*
 * backfill_catalog.h
 *	  What a rebuild applies before the topic: backfills, of which the catalog has the
 *	  query and how far it has come, and seeds, of which it has the events. Every call
 *	  needs an SPI connection.
 */
#ifndef PS_BACKFILL_CATALOG_H
#define PS_BACKFILL_CATALOG_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* A row of a backfill: its place in the order by these three. */
typedef struct PsBackfillPosition
{
	TimestampTz event_time;
	const char *event_id;		/* NULL: before the first row; empty where a row has none */
	const char *customer_id;	/* likewise */
	int64		rows;			/* how many rows with this place are done */
} PsBackfillPosition;

typedef struct PsBackfillCounts
{
	int64		rows;
	int64		applied;
	int64		duplicates;
	int64		dead;
	int64		skipped;
} PsBackfillCounts;

typedef struct PsBackfill
{
	int64		backfill_id;
	int			stream_id;
	const char *name;
	Oid			owner;			/* with whose rights the query runs; may be gone */
	const char *query;
	bool		confirmed;
	PsBackfillPosition position;	/* of the last row that is done */
} PsBackfill;

/* The backfill of a stream with that name; NULL when there is none. */
extern PsBackfill *ps_backfill_find(int stream_id, const char *name);

/* Adds a backfill; fills its number. */
extern void ps_backfill_add(PsBackfill *backfill);
extern void ps_backfill_drop(int64 backfill_id);

/* Notes that a call of backfill() begins. */
extern void ps_backfill_begin(int64 backfill_id);

/* Notes how far a batch came. */
extern void ps_backfill_note(int64 backfill_id, const PsBackfillPosition *position, const PsBackfillCounts *counts);

/* Notes that the call has ended; error NULL: all rows are done. */
extern void ps_backfill_end(int64 backfill_id, const char *error);

/* Keeps the event of a seed that was applied. */
extern void ps_seed_keep(const char *customer_id, Datum event);

/*
 * Keeps rebuilds from beginning until the transaction ends. Raises while one is under
 * way: what is applied now would not be in it.
 */
extern void ps_bootstrap_lock(const char *what);

/* How far a rebuild has come with backfills and seeds. */
typedef struct PsBootstrap
{
	bool		done;
	int64		id;				/* of the seed or backfill that is done, or: */
	bool		in_backfill;	/* of the backfill that is begun */
	PsBackfillPosition position;	/* in that backfill */
} PsBootstrap;

extern void ps_bootstrap_get(PsBootstrap *bootstrap);

/* Stores it, and counts so many more events. */
extern void ps_bootstrap_set(const PsBootstrap *bootstrap, int64 events);

/* The backfill with that number; or the first one after it. NULL when there is none. */
extern PsBackfill *ps_bootstrap_backfill(int64 backfill_id, bool after);

/* The events of at most limit seeds after one number and before another (0: no bound), and their numbers; returns how many. */
extern int	ps_bootstrap_seeds(int64 after, int64 before, int limit, char **events, int64 *ids);

#endif							/* PS_BACKFILL_CATALOG_H */
