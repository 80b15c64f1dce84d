/*
 * stream_catalog.h
 *	  Streams as created, and whether they shall run.
 *	  Every call needs an SPI connection.
 */
#ifndef PS_STREAM_CATALOG_H
#define PS_STREAM_CATALOG_H

#include "nodes/pg_list.h"
#include "store/state_log.h"
#include "store/stream.h"

/* A state that a worker, a relay, or the process that starts them shows of the stream. */
typedef struct PsState
{
	PsStreamState state;
	const char *error;			/* NULL: none */
	const char *hint;			/* NULL: none */
	int64		next_attempt_ms;	/* -1: there is none */
} PsState;

#define PS_NEW_OWNER_HINT "alter_stream(name, owner => ...) gives it to another role; it goes on from its offsets."

/* The stream's owner; raises when that role is gone. */
extern Oid	ps_stream_owner(const PsStream *stream);

/* Why nothing is done for an owner that is gone, for a state. */
extern char *ps_stream_no_owner(const PsStream *stream);

/* Shows it as the state of the stream and of its sinks. */
extern void ps_stream_show_no_owner(const PsStream *stream);

/* Background workers that a stream takes, its relays included. */
extern int	ps_stream_processes(const PsStream *stream);

/* How many the enabled streams of this database take that do not belong to superusers, without one of them. */
extern int	ps_streams_count_processes(int without);

/* The stream of that name, or id when name is NULL; NULL when there is none. */
extern PsStream *ps_stream_find(const char *name, int stream_id);

/* Whether it belongs to another cluster than this server is of: then nothing of it may run. */
extern bool ps_stream_is_foreign(const PsStream *stream);

/* Why a stream that does not run, because it is foreign, does not. */
extern PsState ps_stream_foreign_state(const PsStream *stream);

/* Makes a stream, or in a rebuild's copy of stream_status its rebuild, this cluster's. */
extern void ps_stream_adopt(int stream_id);

/* Whether a stream reads a partition of its topic. */
extern bool ps_stream_reads(const PsStream *stream, int partition);

/* Whether a partition has the customers of the shard of its number, and no others. */
extern bool ps_stream_goes_by_partition(const PsStream *stream);

/* Adds a stream, enabled in this database; fills its id. */
extern void ps_stream_add(PsStream *stream);

/* Stores the settings of a stream that was found. */
extern void ps_stream_alter(const PsStream *stream);
extern void ps_stream_give(int stream_id, Oid owner);
extern void ps_stream_drop(int stream_id);
extern void ps_stream_enable(const PsStream *stream, bool enabled);

/*
 * Tells which data are missing, of those that a restored stream's offsets stand for. NULL:
 * none as far as one can tell. A stream that has run in this database misses none.
 */
extern char *ps_stream_missing_data(int stream_id);

/* Pauses a stream for a reason. */
extern void ps_stream_stop(int stream_id, const char *error, const char *hint);

#define PS_ALL_ATTEMPTS 1000000

/* Changes the number of attempts of workers that may have come to nothing, which is not below 0; returns it. */
extern int	ps_stream_count_attempts(int stream_id, int change);

/* Counts notifications that were skipped. */
extern void ps_stream_count_skipped(int stream_id, int64 skipped);

/* Tells the workers of this database to look at their rows again, once the transaction commits. */
extern void ps_stream_tell_workers(void);

/* Says of all streams that shall run why they do not, and in the log: an older catalogue must have all that it names. */
extern void ps_streams_cannot_start(const char *error, const char *hint, int64 next_attempt_ms);

/* Ids (int) of the streams that shall run in this database. */
extern List *ps_streams_enabled(void);

/* Sets the state for stat_streams; news: goes into stream_log also when the state was the same. Tells what was before. */
extern void ps_stream_change_state(int stream_id, const PsState *state, bool news, PsStateChange *change);

/* The same, where nobody asks what was before. */
extern void ps_stream_set_state(int stream_id, PsStreamState state, const char *error,
								const char *hint, int64 next_attempt_ms);

/* Whether the stream may tell the log of events out of order; then it may not again for a minute. */
extern bool ps_stream_take_log_minute(int stream_id);

/* What stat_streams says: state, error and hint in one line. */
extern char *ps_stream_describe(const char *name);

#endif							/* PS_STREAM_CATALOG_H */
