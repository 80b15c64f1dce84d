/*
 * state_log.h
 *	  Changes of state of streams, rebuilds and sinks, in stream_log.
 *	  Every call needs an SPI connection.
 */
#ifndef PS_STATE_LOG_H
#define PS_STATE_LOG_H

#include "postgres.h"

#define PS_STATE_LOG_ROWS INT64CONST(10000) /* so many are kept */

/*
 * The states of streams, rebuilds, partitions and sinks. ps_state_names has the words;
 * the CHECK constraints of stream_status and sink_status list the same ones.
 */
typedef enum PsStreamState
{
	PS_STATE_NONE,				/* no state was written yet */
	PS_STATE_STARTING,
	PS_STATE_RUNNING,
	PS_STATE_READY,				/* a rebuild has caught up */
	PS_STATE_IDLE,				/* a sink has nothing to deliver */
	PS_STATE_RETRYING,
	PS_STATE_WAITING,			/* for a lock or a standby */
	PS_STATE_OFFSET_LOST,
	PS_STATE_QUARANTINED,
	PS_STATE_NO_OWNER,
	PS_STATE_PAUSED,
	PS_STATE_DISABLED,
	PS_STATE_NO_WORKER_SLOT,
	PS_STATE_INCOMPLETE,
	PS_STATE_FOREIGN_CLUSTER
} PsStreamState;

extern const char *const ps_state_names[];

/* The state of that name; PS_STATE_NONE for NULL and for a word that is no state. */
extern PsStreamState ps_state_parse(const char *name);

/* The state before a change, and how long it lasted. */
typedef struct PsStateChange
{
	PsStreamState from;
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
extern void ps_state_log_partition(int stream_id, int32 topic_no, int32 partition, PsStreamState from, PsStreamState to, const char *reason);

/* Writes to the server's log what the current user does to a stream or its rebuild, and returns who that is; detail NULL: none. */
extern char *ps_state_log_role(const char *stream, const char *what, const char *action, const char *detail);

/* Does the same, and notes it in stream_log, where whoever reads it sees the detail. */
extern void ps_state_log_action(const char *stream, const char *what, const char *action, const char *detail);

/* A time as a message says it. */
extern char *ps_state_log_duration(int64 ms);

#endif							/* PS_STATE_LOG_H */
