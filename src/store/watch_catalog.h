/*
 * watch_catalog.h
 *	  What the streams want to be told, kept in memory, and read again when a stream has
 *	  changed: the columns and attributes that they watch, and whether there is a Redis.
 */
#ifndef PS_WATCH_CATALOG_H
#define PS_WATCH_CATALOG_H

#include "core/watch.h"

typedef struct PsWatcher
{
	int			stream_id;
	const char *stream;
	const char *notify;			/* customer, batch or off */
	const char *notify_channel; /* NULL: that of the database */
	Bitmapset  *names;			/* their numbers */
} PsWatcher;

typedef struct PsWatches
{
	PsWatchedNames names;		/* of all streams */
	PsWatcher  *watchers;
	int			n;
	int64		redis_ttl_s;
} PsWatches;

/* The streams that watch; NULL: none does, or a rebuild runs, of which nobody is told. Valid until the end of the transaction. Needs SPI. */
extern const PsWatches *ps_watches_get(void);

/* Whether a stream is told of changes of these names: one that watches nothing is told of everything. */
extern bool ps_watches_tell(const PsWatches *watches, int stream_id, const Bitmapset * changed);

/* The shortest time to live of a key, of streams with a Redis that run here, in seconds; 0: there is none. Needs SPI. */
extern int64 ps_watches_redis_ttl_s(void);

#endif							/* PS_WATCH_CATALOG_H */
