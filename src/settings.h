/*
 * settings.h
 *	  The settings profile_stream.*, which belong to the server, and failpoints for tests.
 */
#ifndef PS_SETTINGS_H
#define PS_SETTINGS_H

#include "postgres.h"

/* what users call and read, and the parts that only the extension itself uses */
#define PS_SCHEMA "profile_stream"
#define PS_INTERNAL_SCHEMA "profile_stream_internal"

/* Defines them all, when the library is loaded. */
extern void ps_settings_define(void);

extern bool ps_enabled;
extern bool ps_synchronous_commit;
extern bool ps_direct_access;
extern int	ps_batch_customers; /* 0: derived from the lock table */
extern int	ps_max_clock_skew_ms;
extern int	ps_max_event_bytes;
extern double ps_notify_queue_limit;
extern int	ps_worker_restart_limit;
extern int	ps_dead_letter_retention_s; /* 0: for ever */
extern int	ps_dead_letter_kb;	/* of a stream; 0: any number */
extern int	ps_sample_retention_s;	/* after their window; -1: for ever */
extern int	ps_reorder_memory_kb;
extern int	ps_segment_timeout_ms;	/* 0: none */
extern int	ps_max_workers;		/* -1: half of the slots */
extern int	ps_handler_timeout_ms;	/* 0: none */
extern int	ps_score_interval_s;	/* 0: never */
extern int	ps_segment_change_retention_s;	/* 0: for ever */
extern int	ps_segment_count_retention_s;	/* 0: for ever */

/* The cluster that this server is of: profile_stream.cluster, or else cluster_name. */
extern const char *ps_cluster_here(void);

#ifdef PS_FAILPOINTS
extern void ps_failpoint(const char *name);
extern int64 ps_test_clock_us;	/* by which live segments are evaluated; 0: the time of the server */
#define PS_FAILPOINT(name) ps_failpoint(name)
#else
#define PS_FAILPOINT(name) ((void) 0)
#endif

#endif							/* PS_SETTINGS_H */
