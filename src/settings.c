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
#include "postmaster/interrupt.h"
#include "settings.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

bool		ps_enabled;
bool		ps_synchronous_commit;
bool		ps_direct_access;
int			ps_batch_customers;
int			ps_max_clock_skew_ms;
int			ps_max_event_bytes;
int			ps_reorder_memory_kb;
int			ps_handler_timeout_ms;
int			ps_segment_timeout_ms;
int			ps_max_workers;
int			ps_worker_restart_limit;
int			ps_dead_letter_retention_s;
int			ps_dead_letter_kb;
int			ps_sample_retention_s;
int			ps_score_interval_s;
int			ps_segment_change_retention_s;
int			ps_segment_count_retention_s;
double		ps_notify_queue_limit;
static char *ps_cluster;

/* One row per setting: adding one is a row here and a variable. */
typedef struct BoolSetting
{
	const char *name;
	const char *description;
	bool	   *variable;
	bool		value;
	GucContext	context;
} BoolSetting;

static const BoolSetting bools[] = {
	{"profile_stream.enabled", "Whether streams run; off stops every worker at the next reload.",
	&ps_enabled, true, PGC_SIGHUP},
	{"profile_stream.synchronous_commit", "Whether a worker waits for WAL to be flushed; off is safe, because offsets commit with the data.",
	&ps_synchronous_commit, false, PGC_SIGHUP},
	{"profile_stream.direct_access", "Whether rows of plain tables are read and written without the executor; off uses SQL statements only.",
	&ps_direct_access, true, PGC_SUSET},
};

typedef struct IntSetting
{
	const char *name;
	const char *description;
	int		   *variable;
	int			value;
	int			min;
	int			max;
	GucContext	context;
	int			unit;
} IntSetting;

static const IntSetting ints[] = {
	{"profile_stream.batch_customers", "Distinct customers, and so advisory locks, of one transaction; 0 derives it from the size of the lock table.",
	&ps_batch_customers, 0, 0, 1000000, PGC_SIGHUP, 0},
	{"profile_stream.max_clock_skew", "How far in the future an event's timestamp may be.",
	&ps_max_clock_skew_ms, 3600000, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MS},
	{"profile_stream.max_event_bytes", "Size above which a message becomes a dead letter without being decoded.",
	&ps_max_event_bytes, 1048576, 1024, 256 * 1024 * 1024, PGC_SUSET, GUC_UNIT_BYTE},
	{"profile_stream.reorder_memory", "Memory for the events that a worker holds; beyond it the customers that wait longest are served first.",
	&ps_reorder_memory_kb, 65536, 64, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB},
	{"profile_stream.handler_timeout", "Time that a handler or an upcaster may take for an event, or the score function for a profile; 0 sets no limit.",
	&ps_handler_timeout_ms, 1000, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MS},
	{"profile_stream.segment_timeout", "Time that the predicate of a segment may take in one refresh; 0 sets no limit.",
	&ps_segment_timeout_ms, 300000, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MS},
	{"profile_stream.max_workers", "Background workers that streams of ordinary roles may use in the cluster; -1 means half of max_worker_processes.",
	&ps_max_workers, -1, -1, 262143, PGC_SIGHUP, 0},
	{"profile_stream.worker_restart_limit", "Starts of a worker in a row without any progress before its stream is quarantined.",
	&ps_worker_restart_limit, 5, 1, INT_MAX / 64, PGC_SIGHUP, 0},
	{"profile_stream.dead_letter_retention", "Time for which dead letters are kept; 0 keeps them for ever.",
	&ps_dead_letter_retention_s, 30 * SECS_PER_DAY, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S},
	{"profile_stream.dead_letter_bytes", "Size of a stream's dead letters above which the oldest are discarded; 0 sets no limit.",
	&ps_dead_letter_kb, 1024 * 1024, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_KB},
	{"profile_stream.sample_retention", "Time for which exact samples are kept after they left their window; then they become daily sums. -1 keeps them.",
	&ps_sample_retention_s, 30 * SECS_PER_DAY, -1, INT_MAX, PGC_SIGHUP, GUC_UNIT_S},
	{"profile_stream.score_interval", "Interval at which the streams of a database refresh scores and segments; 0 leaves that to you.",
	&ps_score_interval_s, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S},
	{"profile_stream.segment_change_retention", "Time for which changes of segments are kept, at least until the next refresh; 0 keeps them for ever.",
	&ps_segment_change_retention_s, 30 * SECS_PER_DAY, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S},
	{"profile_stream.segment_count_retention", "Time for which daily counts of segments are kept; 0 keeps them for ever.",
	&ps_segment_count_retention_s, 1096 * SECS_PER_DAY, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S},
};

#ifdef PS_FAILPOINTS
static char *ps_failpoint_setting = NULL;
static char *ps_clock_setting = NULL;
int64		ps_test_clock_us = 0;

static bool
check_clock(char **value, void **extra, GucSource source)
{
	char	   *end;

	errno = 0;
	(void) strtoll(*value, &end, 10);
	return errno == 0 && *end == '\0';
}

static void
assign_clock(const char *value, void *extra)
{
	ps_test_clock_us = value == NULL ? 0 : strtoll(value, NULL, 10);
}
#endif

const char *
ps_cluster_here(void)
{
	return ps_cluster != NULL && ps_cluster[0] != '\0' ? ps_cluster : cluster_name;
}

void
ps_settings_define(void)
{
	for (int i = 0; i < lengthof(bools); i++)
		DefineCustomBoolVariable(bools[i].name, bools[i].description, NULL, bools[i].variable, bools[i].value,
								 bools[i].context, 0, NULL, NULL, NULL);
	for (int i = 0; i < lengthof(ints); i++)
		DefineCustomIntVariable(ints[i].name, ints[i].description, NULL, ints[i].variable, ints[i].value,
								ints[i].min, ints[i].max, ints[i].context, ints[i].unit, NULL, NULL, NULL);
	DefineCustomRealVariable("profile_stream.notify_queue_limit",
							 "Share of the server's notification queue above which notifications are skipped.",
							 NULL, &ps_notify_queue_limit, 0.5, 0, 1, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("profile_stream.cluster",
							   "Name of the cluster that the streams belong to, the same on all its servers; empty means cluster_name.",
							   NULL, &ps_cluster, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
#ifdef PS_FAILPOINTS
	DefineCustomStringVariable("profile_stream.failpoint",
							   "Where the code fails on purpose: name:action, action one of error, fatal, kill, disk_full, queue_full, hang, wait, sleep=milliseconds.",
							   NULL, &ps_failpoint_setting, "", PGC_SUSET, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("profile_stream.failpoint_clock",
							   "What live segments take for the time, in microseconds since 2000; 0: the time of the server.",
							   NULL, &ps_clock_setting, "0", PGC_SUSET, GUC_SUPERUSER_ONLY, check_clock, assign_clock, NULL);
#endif
	MarkGUCPrefixReserved("profile_stream");
}

#ifdef PS_FAILPOINTS
/* Waits until the setting is another one. */
static void
failpoint_wait(void)
{
	char	   *setting = pstrdup(ps_failpoint_setting);

	ereport(LOG, (errmsg_internal("failpoint \"%s\"", setting)));
	while (strcmp(ps_failpoint_setting, setting) == 0)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
			ProcessConfigFile(PGC_SIGHUP);
	}
	pfree(setting);
	SetLatch(MyLatch);			/* what woke this loop is still to be served, the reload too */
}

/* Hangs for ever. The log says so, in a way that a side thread may use. */
static void
failpoint_hang(void)
{
	static const char line[] = "a failpoint hangs\n";

	if (write(STDERR_FILENO, line, sizeof(line) - 1) < 0)
		abort();
	for (;;)
		pause();
}

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
		failpoint_hang();
	else if (strcmp(action, "wait") == 0)
		failpoint_wait();
	else if (strncmp(action, "sleep=", 6) == 0)
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 atoi(action + 6), PG_WAIT_EXTENSION);
}
#endif
