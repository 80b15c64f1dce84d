/*
 * lock_wait.c
 *	  Bounds waits for locks, and tells which lock a wait was for. The error of
 *	  lock_timeout does not tell it, and then the process is in no queue any more. So
 *	  a timer notes from time to time for which lock the process waits.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "clock.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "store/lock_wait.h"
#include "store/xact.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#define LOOKS 3					/* how often the timer looks during the longest wait */
#define MAX_NAMED 8				/* processes that a message names */

static bool is_registered = false;
static TimeoutId timer;

/* set by the timer */
static volatile sig_atomic_t noted = false;
static LOCKTAG noted_tag;
static LOCKMODE noted_mode;

static TimestampTz waits_since = 0; /* since when this lock is waited for; 0: it was granted meanwhile */

/* Runs in a signal handler. Reading the lock is safe: it exists as long as this process waits for it. */
static void
lock_wait_note(void)
{
	LOCK	   *lock;

	/* the timer may fire until the very end of the process */
	if (proc_exit_inprogress || MyProc == NULL)
		return;
	lock = *(LOCK *volatile *) &MyProc->waitLock;
	if (lock == NULL)
		return;
	noted_tag = lock->tag;
	noted_mode = MyProc->waitLockMode;
	noted = true;
}

/* Starts the timer. */
static void
lock_wait_watch(int bound_ms)
{
	int			interval = Max(1, Min(bound_ms, PS_WAIT_MS) / LOOKS);

	if (!is_registered)
		timer = RegisterTimeout(USER_TIMEOUT, lock_wait_note);
	is_registered = true;
	noted = false;
	enable_timeout_every(timer, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), interval), interval);
}

void
ps_lock_wait_bound_process(void)
{
	int			ms = LockTimeout > 0 ? Min(LockTimeout, PS_WAIT_MS) : PS_WAIT_MS;

	SetConfigOption("lock_timeout", psprintf("%d", ms), PGC_USERSET, PGC_S_SESSION);
	/* whoever looks for a deadlock first gives way: this process, which tries again by itself, and not a user */
	SetConfigOption("deadlock_timeout", "100ms", PGC_SUSET, PGC_S_SESSION);
	lock_wait_watch(ms);
}

int
ps_lock_wait_bound(int ms)
{
	int			nest_level = NewGUCNestLevel();

	if (LockTimeout > 0)
		ms = Min(ms, LockTimeout);
	ps_guc_set_nested("lock_timeout", psprintf("%d", ms));
	lock_wait_watch(ms);
	return nest_level;
}

void
ps_lock_wait_free(int nest_level)
{
	disable_timeout(timer, false);
	AtEOXact_GUC(true, nest_level);
}

/* Adds a process to a list unless it is there; 0 is a prepared transaction. */
static void
add_process(StringInfo list, int *pids, int *n, int pid)
{
	for (int i = 0; i < *n; i++)
		if (pids[i] == pid)
			return;
	if (*n == MAX_NAMED)
		return;
	if (pid == 0)
		appendStringInfo(list, "%sa prepared transaction", *n == 0 ? "" : ", ");
	else
		appendStringInfo(list, "%sprocess %d", *n == 0 ? "" : ", ", pid);
	pids[(*n)++] = pid;
}

char *
ps_lock_wait_holders(const LOCKTAG *tag, LOCKMODE mode, int pid)
{
	LockData   *locks = GetLockStatusData();
	LOCKMASK	conflicts = GetLockTagsMethodTable(tag)->conflictTab[mode];
	StringInfoData list;
	int			pids[MAX_NAMED];
	int			n = 0;

	initStringInfo(&list);
	/* those who hold the lock, or else those before us in the queue */
	for (int waiting = 0; waiting < 2 && n == 0; waiting++)
		for (int i = 0; i < locks->nelements; i++)
		{
			const LockInstanceData *lock = &locks->locks[i];
			LOCKMASK	modes = waiting ? (lock->waitLockMode == NoLock ? 0 : LOCKBIT_ON(lock->waitLockMode)) : lock->holdMask;

			if (memcmp(&lock->locktag, tag, sizeof(LOCKTAG)) == 0 && lock->pid != pid && (modes & conflicts) != 0)
				add_process(&list, pids, &n, lock->pid);
		}
	return n == 0 ? NULL : list.data;
}

char *
ps_lock_wait_describe(const LOCKTAG *tag, LOCKMODE mode)
{
	StringInfoData text;
	const char *name = NULL;

	if ((tag->locktag_type == LOCKTAG_RELATION || tag->locktag_type == LOCKTAG_TUPLE) && tag->locktag_field1 == MyDatabaseId)
		name = get_rel_name(tag->locktag_field2);
	initStringInfo(&text);
	if (name != NULL && tag->locktag_type == LOCKTAG_RELATION)
		appendStringInfo(&text, "%s on \"%s\"", GetLockmodeName(tag->locktag_lockmethodid, mode), name);
	else if (name != NULL)
		appendStringInfo(&text, "a row of \"%s\"", name);
	else if (tag->locktag_type == LOCKTAG_OBJECT && tag->locktag_field2 == ExtensionRelationId)
		appendStringInfo(&text, "%s on the extension", GetLockmodeName(tag->locktag_lockmethodid, mode));
	else
	{
		appendStringInfo(&text, "%s on ", GetLockmodeName(tag->locktag_lockmethodid, mode));
		DescribeLockTag(&text, tag);
	}
	return text.data;
}

int
ps_lock_wait_holder(TransactionId xid)
{
	static TransactionId known = InvalidTransactionId;
	static int	holder;
	static PsMoment known_at;
	LockData   *locks;
	LOCKTAG		tag;

	/* remembered, because one transaction may hold many rows */
	if (xid == known && ps_clock_now() < ps_moment_plus(known_at, PS_WAIT_MS))
		return holder;
	known = xid;
	known_at = ps_clock_now();
	holder = PS_PREPARED;
	locks = GetLockStatusData();
	SET_LOCKTAG_TRANSACTION(tag, xid);
	for (int i = 0; i < locks->nelements; i++)
		if (memcmp(&locks->locks[i].locktag, &tag, sizeof(LOCKTAG)) == 0 && locks->locks[i].holdMask != 0 &&
			locks->locks[i].pid != 0)
			holder = locks->locks[i].pid;
	return holder;
}

const char *
ps_lock_wait_holder_name(int holder)
{
	return holder > 0 ? psprintf("process %d", holder) : "a prepared transaction";
}

bool
ps_lock_wait_explain(ErrorData *error)
{
	MemoryContext context = CurrentMemoryContext;
	const char *holders;
	char	   *text;

	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE || !noted)
		return false;
	if (waits_since == 0)
		waits_since = GetCurrentTimestamp() - PS_WAIT_MS * INT64CONST(1000);
	ps_transaction_start();
	text = ps_lock_wait_describe(&noted_tag, noted_mode);

	holders = ps_lock_wait_holders(&noted_tag, noted_mode, MyProcPid);
	text = psprintf("waits for %s, which %s has, since %s", text, holders ? holders : "nobody any more",
					timestamptz_to_str(waits_since));

	error->message = MemoryContextStrdup(context, text);
	error->hint = holders ? pstrdup("End the transaction that has it; what waits goes on by itself.") : NULL;
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	noted = false;
	return true;
}

void
ps_lock_wait_over(void)
{
	waits_since = 0;
}

void
ps_lock_wait_rethrow(const char *what, MemoryContext context)
{
	const char *holders;

	disable_timeout(timer, false);
	if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE || !noted)
		PG_RE_THROW();
	MemoryContextSwitchTo(context);
	holders = ps_lock_wait_holders(&noted_tag, noted_mode, MyProcPid);
	FlushErrorState();
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("%s waited too long for a lock", what),
			 holders ? errdetail("It is held by %s.", holders) : 0,
			 errhint("End the transaction that holds it, and try again.")));
}
