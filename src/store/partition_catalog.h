/*
 * partition_catalog.h
 *	  Where each partition of a stream is read from. Every call needs an SPI
 *	  connection.
 */
#ifndef PS_PARTITION_CATALOG_H
#define PS_PARTITION_CATALOG_H

#include "profile_stream.h"
#include "nodes/pg_list.h"

typedef struct PsStoredOffset
{
	int32		partition;
	int32		epoch;
	int64		start_offset;
	int64		next_offset;
	int64		read_offset;
	int64		commits;
	bytea	   *finished;		/* marks of core/offset_set, from next_offset on */
	bool		lost;
} PsStoredOffset;

extern List *ps_stream_offsets(int stream_id);
extern void ps_stream_add_partition(int stream_id, int partition, int64 start_offset);

/* Notes the end of a partition, where the lag is measured from, when nothing was read that tells it. */
extern void ps_stream_note_end(int stream_id, int partition, int64 end_offset);
extern void ps_stream_lose_partition(int stream_id, int partition, const char *error);

/* Goes on from another position, and records the gap; back means that the topic was created anew: a new epoch. */
extern void ps_stream_jump(int stream_id, const PsStoredOffset *after, int64 from_offset, int64 to_offset, int64 held,
						   const char *reason);

/* Moves a partition that nobody reads, adding its row when it has none, and records the gap. */
extern void ps_stream_seek(int stream_id, int partition, int64 to_offset);

/* Whether every partition has reached ends[partition]; PG_INT64_MIN: not waited for. */
extern bool ps_stream_reached(int stream_id, const int64 *ends, int n);

#endif							/* PS_PARTITION_CATALOG_H */
