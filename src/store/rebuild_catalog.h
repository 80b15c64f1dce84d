/*
 * rebuild_catalog.h
 *	  The rebuild that is under way in a database, one at most: its rows in the
 *	  catalogue and in the shadow. Every call needs an SPI connection.
 */
#ifndef PS_REBUILD_CATALOG_H
#define PS_REBUILD_CATALOG_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "store/stream_catalog.h"

typedef struct PsRebuild
{
	int			stream_id;
	char	   *stream;
	bool		allow_missing;
	bool		enabled;		/* not paused */
	PsStreamState state;		/* as its worker last said */
} PsRebuild;

/* Where a stream began to read a partition. */
typedef struct PsRebuildStart
{
	int32		partition;
	int32		epoch;
	int64		start_offset;
} PsRebuildStart;

/* The rebuild of this database, NULL when there is none. */
extern PsRebuild *ps_rebuild_find(void);

/* Its state as stat_rebuilds shows it, with the error. */
extern char *ps_rebuild_describe(bool *ready);

/* Name of a stream other than that one, NULL when there is none. */
extern char *ps_rebuild_other_stream(int stream_id);

/* Begins a rebuild: the shadow is emptied first. For the owner of the tables. */
extern void ps_rebuild_add(int stream_id, bool allow_missing);
extern void ps_rebuild_enable(int stream_id, bool enabled);
extern void ps_rebuild_set_state(int stream_id, PsStreamState state, const char *error, const char *hint);

/* Empties the shadow and forgets the rebuild, whose worker ends. For the owner of the tables. */
extern void ps_rebuild_end(void);

/* What its worker notes: since when it counts its rate, partitions, and what the topic has no more. */
extern void ps_rebuild_note_resumed(int stream_id);
extern void ps_rebuild_add_partition(int stream_id, const PsRebuildStart *start, int64 end_offset);
extern void ps_rebuild_add_gap(int stream_id, const PsRebuildStart *start, int64 low);

/* PsRebuildStart of each partition of the stream. */
extern List *ps_rebuild_starts(int stream_id);

/* How many messages are finished in the stream and not in the shadow, and how many they are apart. */
extern int64 ps_rebuild_behind(int stream_id);
extern int64 ps_rebuild_apart(int stream_id);

/* rebuild_diff.c: selects the rows of rebuild_diff(), at most so many, into SPI_tuptable. */
extern uint64 ps_rebuild_select_diff(int max_rows);

/* rebuild_swap.c: brings the tables to what the shadow holds; returns how many profiles changed. */
extern int64 ps_rebuild_bring(int stream_id);

/* Goes past what cannot be read, where the stream itself has gone past it; whether it did. */
extern bool ps_rebuild_skip(int stream_id, int partition, int64 refused_offset);

/* The settings under which a stream is rebuilt. */
extern void ps_rebuild_adjust(PsStream *stream);

#endif							/* PS_REBUILD_CATALOG_H */
