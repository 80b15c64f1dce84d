/*
 * caller.h
 *	  Helpers of the SQL functions: checks of the caller's rights, arguments, and errors.
 */
#ifndef PS_CALLER_H
#define PS_CALLER_H

#include "postgres.h"

#include "clock.h"
#include "core/filter.h"
#include "fmgr.h"
#include "ingest/probe.h"
#include "store/function.h"
#include "store/owner.h"
#include "store/partition_catalog.h"
#include "store/stream_catalog.h"
#include "utils/timestamp.h"

/* Finds a stream or raises; control: also raises unless the caller owns it. Needs SPI. */
extern PsStream *ps_find_stream(text *name, bool control);

/* Raises when the stream and so many rebuilds would exceed profile_stream.max_workers. It does not bound superusers. Needs SPI. */
extern void ps_check_slots(const PsStream *stream, int rebuilds);

/* Lets the stream's workers start when this transaction commits: all, or those that do not run. Needs SPI. */
extern void ps_start_at_commit(PsStream *stream, bool all);

/* Raises unless the caller could SET ROLE to the role, as ALTER ... OWNER TO does. */
extern void ps_check_set_role(Oid role);

/* Raises unless the function has the form of its kind and the caller its rights; returns its owner, with whose rights it will run. */
extern Oid	ps_check_function(PsFunctionKind kind, Oid function);

/* The decoder of that name, with its schema and with or without its arguments; raises when there is none. */
extern Oid	ps_find_decoder(const char *name);

/* Raises ERRCODE_INVALID_PARAMETER_VALUE with the message, unless the argument is valid. */
extern void ps_check_argument(bool valid, const char *message);

/* Raises, with the list of words, unless the word is one of them. There are at most max; a NULL ends them before. */
extern void ps_check_word(const char *what, const char *word, const char *const *words, int max);

/* Reads a time where words may stand, too: its error begins with what the argument must be. */
extern TimestampTz ps_read_time(const char *time, const char *must);

/* Raises when profiles have a column of that name: create_profile_view() could not add one for a metric or an attribute. */
extern void ps_check_no_column(const char *name);

/* Raises in a transaction whose snapshot stays: it would not see what is committed while the function waits for a lock. */
extern void ps_check_read_committed(const char *what);

/* Raises when a procedure that commits is called where it cannot. */
extern void ps_check_not_atomic(FunctionCallInfo fcinfo, const char *what, const char *hint);

/* An argument as a string, NULL when null; the second raises unless it has 1 to max bytes. */
extern char *ps_get_string(FunctionCallInfo fcinfo, int n);
extern char *ps_get_name(FunctionCallInfo fcinfo, int n, const char *what, int max);

/* An array of texts, empty when null. Raises unless each has 1 to PS_MAX_ID_BYTES bytes, and when there are too many. */
extern PsTextSet ps_get_texts(FunctionCallInfo fcinfo, int n, const char *what);

/* The argument event_type as a set of one, or event_types; raises unless there is one of them. */
extern PsTextSet ps_get_event_types(FunctionCallInfo fcinfo, int one, int several);

/* Raises the error of an answer, or of a topic that exists and did not answer. */
extern void ps_check_answer(const PsProbeAnswer *answer);

/* The topics (PsTopic) of a stream that a call is about: the one that the argument n names, or all of them. Needs SPI. */
extern List *ps_get_topics(FunctionCallInfo fcinfo, int n, const PsStream *stream);

/* The errors as text[]. */
extern Datum ps_reject_errors(const PsReject *reject);

/* rebuild(): create_metric() calls it, too. */
extern PGDLLEXPORT Datum ps_rebuild_start(PG_FUNCTION_ARGS);

/* The moment at which the argument n, a timeout, ends. Raises when it is negative. */
extern PsMoment ps_get_deadline(FunctionCallInfo fcinfo, int n);

/* An interval in microseconds. A month has 30 days; very long intervals are cut, so that sums do not overflow. */
extern int64 ps_interval_us(Interval *interval);

/* Calls a function that waits at most so long for each lock. Its error names the lock holder. */
extern Datum ps_call_bounded(FunctionCallInfo fcinfo, PGFunction function, const char *name, int64 ms);

#endif							/* PS_CALLER_H */
