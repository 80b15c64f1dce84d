/*
 * caller.h
 *	  What the functions that control streams share: whose rights count, how
 *	  arguments are read, and how reasons are said.
 */
#ifndef PS_CALLER_H
#define PS_CALLER_H

#include "postgres.h"

#include "core/event.h"
#include "fmgr.h"
#include "ingest/probe.h"
#include "store/owner.h"
#include "store/partition_catalog.h"
#include "store/stream_catalog.h"
#include "utils/timestamp.h"

/* Finds a stream, which the caller must own when it is to be controlled; needs SPI. */
extern PsStream *ps_find_stream(text *name, bool control);

/* Raises when the stream, whose owner is no superuser, and rebuilds would take more background workers than there may be; needs SPI. */
extern void ps_check_slots(const PsStream *stream, int rebuilds);

/* Starts the stream's workers, all or those that do not run, once this transaction commits; needs SPI. */
extern void ps_start_at_commit(PsStream *stream, bool all);

/* Raises unless the caller could SET ROLE to a role, as ALTER ... OWNER TO wants it. */
extern void ps_check_set_role(Oid role);

/* Raises ERRCODE_INVALID_PARAMETER_VALUE unless it is valid. */
extern void ps_check_argument(bool valid, const char *message);

/* An argument as a string, NULL when null; and one that must be there and have at most max bytes. */
extern char *ps_get_string(FunctionCallInfo fcinfo, int n);
extern char *ps_get_name(FunctionCallInfo fcinfo, int n, const char *what, int max);

/* Raises what a broker said is wrong. */
extern void ps_check_answer(PsProbeAnswer *answer, const char *topic);

/* The errors as text[]. */
extern Datum ps_reject_errors(const PsReject *reject);

/* rebuild(), for what begins one by the way */
extern PGDLLEXPORT Datum ps_rebuild_start(PG_FUNCTION_ARGS);

/* An interval in microseconds, months of 30 days. */
extern int64 ps_interval_us(Interval *interval);

/* Runs a function of the API so that it waits at most so long for each lock, and its error tells who has that. */
extern Datum ps_call_bounded(FunctionCallInfo fcinfo, PGFunction function, const char *name, int64 ms);

#endif							/* PS_CALLER_H */
