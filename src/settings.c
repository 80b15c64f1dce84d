/*
 * settings.c
 *	  Defines the settings profile_stream.*, and does what the failpoint says.
 */
#include "postgres.h"

#include <limits.h>
#include <signal.h>
#include <unistd.h>

#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "settings.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

bool		ps_enabled = true;
bool		ps_synchronous_commit = false;
bool		ps_direct_access = true;
int			ps_batch_customers = 0;
int			ps_max_clock_skew_ms = 3600000;
int			ps_max_event_bytes = 1048576;
double		ps_notify_queue_limit = 0.5;
int			ps_worker_restart_limit = 5;
int			ps_dead_letter_retention_s = 30 * SECS_PER_DAY;
int			ps_dead_letter_kb = 1024 * 1024;
int			ps_sample_retention_s = 30 * SECS_PER_DAY;
int			ps_reorder_memory_kb = 65536;
int			ps_handler_timeout_ms = 1000;
int			ps_segment_timeout_ms = 300000;
int			ps_max_workers = -1;
int			ps_score_interval_s = 0;
int			ps_segment_change_retention_s = 30 * SECS_PER_DAY;
static char *ps_cluster = NULL;

#ifdef PS_FAILPOINTS
static char *ps_failpoint_setting = NULL;
#endif

const char *
ps_cluster_here(void)
{
	return ps_cluster != NULL && ps_cluster[0] != '\0' ? ps_cluster : cluster_name;
}

void
ps_settings_define(void)
{
	DefineCustomBoolVariable("profile_stream.enabled",
							 "Whether streams run; off stops every worker at the next reload.",
							 NULL, &ps_enabled, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("profile_stream.synchronous_commit",
							 "Whether a worker waits for WAL to be flushed; off is safe, because offsets commit with the data.",
							 NULL, &ps_synchronous_commit, false, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("profile_stream.direct_access",
							 "Whether rows of plain tables are read and written without the executor; off uses SQL statements only.",
							 NULL, &ps_direct_access, true, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("profile_stream.batch_customers",
							"Distinct customers, and so advisory locks, of one transaction; 0 derives it from the lock table.",
							NULL, &ps_batch_customers, 0, 0, 1000000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("profile_stream.max_clock_skew",
							"How far in the future an event's timestamp may be.",
							NULL, &ps_max_clock_skew_ms, 3600000, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("profile_stream.max_event_bytes",
							"Size above which a message becomes a dead letter undecoded.",
							NULL, &ps_max_event_bytes, 1048576, 1024, 256 * 1024 * 1024, PGC_SUSET, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("profile_stream.reorder_memory",
							"Memory for the events that a stream's worker holds; beyond it the customers that wait longest are served first.",
							NULL, &ps_reorder_memory_kb, 65536, 64, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("profile_stream.handler_timeout",
							"How long a handler or an upcaster may take for an event, or the score function for a profile; 0 lets it take any time.",
							NULL, &ps_handler_timeout_ms, 1000, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("profile_stream.segment_timeout",
							"How long the predicate of a segment may take in one refresh; 0 lets it take any time.",
							NULL, &ps_segment_timeout_ms, 300000, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("profile_stream.max_workers",
							"Background workers that streams of roles that are no superusers may have in the cluster; -1: half of max_worker_processes.",
							NULL, &ps_max_workers, -1, -1, 262143, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomRealVariable("profile_stream.notify_queue_limit",
							 "Share of the server's notification queue above which notifications are skipped.",
							 NULL, &ps_notify_queue_limit, 0.5, 0, 1, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("profile_stream.worker_restart_limit",
							"Starts of a worker in a row that may come to nothing before its stream is quarantined.",
							NULL, &ps_worker_restart_limit, 5, 1, INT_MAX / 64, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("profile_stream.dead_letter_retention",
							"How long dead letters are kept; 0 keeps them for ever.",
							NULL, &ps_dead_letter_retention_s, 30 * SECS_PER_DAY, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("profile_stream.dead_letter_bytes",
							"How much the dead letters of a stream may take; beyond it the oldest are discarded. 0 sets no bound.",
							NULL, &ps_dead_letter_kb, 1024 * 1024, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("profile_stream.sample_retention",
							"How long exact samples are kept once they left their window, before they become daily buckets; -1 keeps them.",
							NULL, &ps_sample_retention_s, 30 * SECS_PER_DAY, -1, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("profile_stream.score_interval",
							"How often scores and segments are refreshed beside the streams of a database; 0 leaves it to you.",
							NULL, &ps_score_interval_s, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("profile_stream.segment_change_retention",
							"How long changes of segments are kept, at least until the next refresh; 0 keeps them for ever.",
							NULL, &ps_segment_change_retention_s, 30 * SECS_PER_DAY, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomStringVariable("profile_stream.cluster",
							   "The cluster that the streams of this server belong to, the same on all its members; empty: cluster_name.",
							   NULL, &ps_cluster, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
#ifdef PS_FAILPOINTS
	DefineCustomStringVariable("profile_stream.failpoint",
							   "Where the code fails on purpose: name:action, action one of error, fatal, kill, disk_full, queue_full, sleep=milliseconds.",
							   NULL, &ps_failpoint_setting, "", PGC_SUSET, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
#endif
	MarkGUCPrefixReserved("profile_stream");
}

#ifdef PS_FAILPOINTS
/* Does what profile_stream.failpoint says when it names this place. */
void
ps_failpoint(const char *name)
{
	const char *setting = ps_failpoint_setting;
	size_t		len = strlen(name);
	const char *action;

	if (setting == NULL || strncmp(setting, name, len) != 0 || setting[len] != ':')
		return;
	action = setting + len + 1;
	if (strcmp(action, "kill") == 0)
		kill(MyProcPid, SIGKILL);
	else if (strcmp(action, "fatal") == 0)
		ereport(FATAL,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("failpoint \"%s\"", name)));
	else if (strcmp(action, "error") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("failpoint \"%s\"", name)));
	else if (strcmp(action, "disk_full") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DISK_FULL),
				 errmsg("failpoint \"%s\"", name)));
	else if (strcmp(action, "queue_full") == 0 && errstart(ERROR, TEXTDOMAIN))
	{
		errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED);
		errmsg("failpoint \"%s\"", name);
		errfinish(__FILE__, __LINE__, "PreCommit_Notify");	/* by which ps_notify_overflowed() knows it */
	}
	else if (strcmp(action, "hang") == 0)	/* the only one for a side thread */
		for (;;)
			pause();
	else if (strncmp(action, "sleep=", 6) == 0)
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 atoi(action + 6), PG_WAIT_EXTENSION);
}
#endif
