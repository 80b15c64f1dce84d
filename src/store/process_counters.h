/*
 * process_counters.h
 *	  Counters of workers and relays: errors, retries and restarts. Of a rebuild nothing
 *	  is counted. A process is named as ps_bgworker_process_name() does. Every call needs
 *	  an SPI connection.
 */
#ifndef PS_PROCESS_COUNTERS_H
#define PS_PROCESS_COUNTERS_H

#include "postgres.h"

/* A process has started. It is a restart, if the one before had the same registration with the server. */
extern void ps_process_count_start(int stream_id, const char *process, int64 registration);

/* Adds to the counters of a process. */
extern void ps_process_count(int stream_id, const char *process, int64 errors, int64 retries);

/* Begins the counters of a stream anew, and those of its sinks, but for counts of messages. */
extern void ps_process_reset_counters(int stream_id);

#endif							/* PS_PROCESS_COUNTERS_H */
