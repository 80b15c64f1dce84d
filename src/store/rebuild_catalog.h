/*
 * rebuild_catalog.h
 *	  The rebuild of a database, of which there is at most one: its rows in
 *	  stream_rebuilds, one for each stream, and those in the rebuild schema. Every call
 *	  needs an SPI connection.
 */
#ifndef PS_REBUILD_CATALOG_H
#define PS_REBUILD_CATALOG_H

#include "postgres.h"

#include "message.h"
#include "nodes/pg_list.h"
#include "store/stream_catalog.h"

typedef struct PsRebuild
{
	int			stream_id;
	char	   *stream;
	bool		allow_missing;
	TimestampTz started_at;
	bool		enabled;		/* not paused */
	PsStreamState state;		/* last state that its worker has set */
} PsRebuild;

/* Where a stream began to read a partition. */
typedef struct PsRebuildStart
{
	int32		topic_no;
	int32		partition;
	int32		epoch;
	int64		start_offset;
	const char *topic;			/* NULL: not known */
} PsRebuildStart;

/* The rebuild of this database: that of a stream, or with 0 of any stream. NULL: there is none. */
extern PsRebuild *ps_rebuild_find(int stream_id);

/* All of them (PsRebuild): of each stream that is rebuilt. */
extern List *ps_rebuilds(void);

/* The stream whose rebuild is not ready, first one with an error, or else any; and its state with the error, as in stat_rebuilds. */
typedef struct PsRebuildState
{
	bool		ready;			/* those of all streams are */
	char	   *stream;			/* NULL: there is no rebuild any more */
	char	   *state;
} PsRebuildState;

extern PsRebuildState ps_rebuild_state(void);

/* The name of a stream that is not rebuilt; NULL when there is none. */
extern char *ps_rebuild_other_stream(void);

/* Adds a stream to the rebuild, which ps_rebuild_end() has ended before. */
extern void ps_rebuild_add(int stream_id, bool allow_missing);
extern void ps_rebuild_enable(int stream_id, bool enabled);
extern void ps_rebuild_set_state(int stream_id, PsStreamState state, const char *error, const char *hint);

/* Ends the rebuild and its worker, and empties the rebuild schema. */
extern void ps_rebuild_end(void);

/* For the worker: the time from which its rate counts; a partition; messages that the topic does not have any more. */
extern void ps_rebuild_note_resumed(int stream_id);
extern void ps_rebuild_add_partition(int stream_id, const PsRebuildStart *start, int64 end_offset);
extern void ps_rebuild_add_gap(int stream_id, const PsRebuildStart *start, int64 low);

/* The PsRebuildStart of each partition of the stream. */
extern List *ps_rebuild_starts(int stream_id);

/*
 * How many messages the stream has finished and the rebuild has not. *left: a partition
 * with such messages that the stream does not read any more; NULL: none.
 */
extern int64 ps_rebuild_behind(int stream_id, char **left);

/* The distance of both in messages, in either direction. */
extern int64 ps_rebuild_apart(int stream_id);

/* rebuild_diff.c: selects at most max_rows rows of rebuild_diff() into SPI_tuptable. */
extern uint64 ps_rebuild_select_diff(int max_rows);

/* rebuild_swap.c: makes the tables equal to those of the rebuild; returns how many profiles changed. */
extern int64 ps_rebuild_bring(List *rebuilds);

/* Skips messages that cannot be read, if the stream has skipped them too; false when it has not. */
extern bool ps_rebuild_skip(int stream_id, const PsPosition *refused);

/* Changes the options of a stream to those with which it is rebuilt. */
extern void ps_rebuild_adjust(PsStream *stream);

#endif							/* PS_REBUILD_CATALOG_H */
