/*
 * stream_catalog.h
 *	  Streams as created, whether they shall run, and their partitions' rows.
 *	  Every call needs an SPI connection.
 */
#ifndef PS_STREAM_CATALOG_H
#define PS_STREAM_CATALOG_H

#include "profile_stream.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

typedef struct PsStream
{
	int			stream_id;
	char	   *name;
	char	   *owner;
	char	   *server;			/* NULL: brokers is set */
	char	   *brokers;
	char	   *topic;
	char	   *group_id;
	char	   *start_from;
	int			batch_size;
	int			batch_wait_ms;
	int64		dedupe_retention_us;
	int64		reorder_wait_us;	/* 0: events are not held */
	int			reorder_buffer_size;
	int64		late_tolerance_us;	/* -1: no event is late */
	char	   *on_offset_lost;
	char	   *notify_channel;
	char	   *notify;
	Jsonb	   *options;
	bool		enabled;		/* in this database */
} PsStream;

typedef struct PsStoredOffset
{
	int32		partition;
	int32		epoch;
	int64		next_offset;
	int64		read_offset;
	int64		commits;
	bytea	   *finished;		/* marks of core/offset_set, from next_offset on */
	bool		lost;
} PsStoredOffset;

/* The stream of that name, or id when name is NULL; NULL when there is none. */
extern PsStream *ps_stream_find(const char *name, int stream_id);

/* Adds a stream, enabled in this database; fills its id. */
extern void ps_stream_add(PsStream *stream);
extern void ps_stream_drop(int stream_id);
extern void ps_stream_enable(int stream_id, bool enabled);

/* Ids (int) of the streams that shall run in this database. */
extern List *ps_streams_enabled(void);

/* State of a worker, for stat_streams. */
extern void ps_stream_set_state(int stream_id, const char *state, const char *error,
								const char *hint, int64 next_attempt_ms);

extern List *ps_stream_offsets(int stream_id);
extern void ps_stream_add_partition(int stream_id, int partition, int64 start_offset);
extern void ps_stream_lose_partition(int stream_id, int partition, const char *error);

/* Goes on from another position, and records the gap; back means that the topic was created anew: a new epoch. */
extern void ps_stream_jump(int stream_id, const PsStoredOffset *after, int64 from_offset, int64 to_offset, int64 held,
						   const char *reason);

/* Whether every partition has reached ends[partition]; PG_INT64_MIN: not waited for. */
extern bool ps_stream_reached(int stream_id, const int64 *ends, int n);

/* What stat_streams says: state, error and hint in one line. */
extern char *ps_stream_describe(const char *name);

#endif							/* PS_STREAM_CATALOG_H */
