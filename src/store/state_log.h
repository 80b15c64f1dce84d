/*
 * state_log.h
 *	  Changes of state of streams, rebuilds and sinks, in stream_log.
 *	  Every call needs an SPI connection.
 */
#ifndef PS_STATE_LOG_H
#define PS_STATE_LOG_H

#include "postgres.h"

#define PS_STATE_LOG_ROWS INT64CONST(10000) /* so many are kept */

/* What was before a state, and how long. */
typedef struct PsStateChange
{
	char	   *from;			/* NULL: nothing */
	int64		lasted_ms;
} PsStateChange;

/*
 * The part of a statement that adds a row, when the first condition holds: of a WITH
 * query o, which has from_state and since. Words are SQL expressions.
 */
#define PS_STATE_LOG_ADD(condition, stream_id, what, part, state, reason, hint) \
	"INSERT INTO profile_stream.stream_log (logged_at, stream, what, part, from_state, to_state, reason, hint, lasted)" \
	" SELECT pg_catalog.clock_timestamp(), s.name, " what ", " part ", o.from_state, " state ", " reason ", " hint "," \
	" pg_catalog.clock_timestamp() - o.since FROM o CROSS JOIN profile_stream.streams s" \
	" WHERE s.stream_id = " stream_id " AND (" condition ")"

/* The part that reads the result: what PsStateChange has. */
#define PS_STATE_LOG_RESULT \
	"SELECT o.from_state, (EXTRACT(epoch FROM pg_catalog.clock_timestamp() - o.since) * 1000)::int8 FROM o"

/* Raises unless the tables that such a statement has beside the one with the state are the extension's own. */
extern void ps_state_log_check(void);

/* Takes the result of such a statement, and keeps the table small; as who may write it. */
extern void ps_state_log_finish(uint64 rows, PsStateChange *change);

/* Notes what became of a partition; whoever the caller is. */
extern void ps_state_log_partition(int stream_id, int partition, const char *from, const char *to, const char *reason);

/* A time as a message says it. */
extern char *ps_state_log_duration(int64 ms);

#endif							/* PS_STATE_LOG_H */
