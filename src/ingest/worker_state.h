/*
 * worker_state.h
 *	  What stat_streams, stream_log and the log say of a worker.
 */
#ifndef PS_WORKER_STATE_H
#define PS_WORKER_STATE_H

#include "ingest/worker.h"

/* Says that the stream runs, or why it does not read. */
extern void ps_worker_set_running(PsWorker *worker);

/* Shows a state in stat_streams when it changed. The log gets a line for each change and each new error. */
extern void ps_worker_set_state(PsWorker *worker, PsStreamState state, const char *error, const char *hint);

/* Shows why the process ends, and when the next one tries again. Without the time the stream would be shown as not running. */
extern void ps_worker_set_restarting(PsWorker *worker, const char *error, const char *hint, int64 next_attempt_ms);

/* Shows a caught error, which the log has already; news: stream_log has not. */
extern void ps_worker_report_error(PsWorker *worker, ErrorData *error, bool news, int64 next_attempt_ms);

/* Takes over what the process before this one showed, so that it is not told twice. */
extern void ps_worker_begin_state(PsWorker *worker);

/* A stream that was paused and resumed while its worker did not look is starting: the worker writes its state again. */
extern void ps_worker_compare_state(PsWorker *worker, const PsStream *stream);

#endif							/* PS_WORKER_STATE_H */
