/*
 * live_segments.c
 *	  Keeps the live segments in memory, compiled. They are loaded again when one of them,
 *	  a metric, a function or a right has changed.
 *
 *	  Predicates are code of users. They are compiled and evaluated as their owners, in
 *	  security-restricted operations, with fixed settings, for a limited time. A
 *	  subtransaction catches their errors: the segment is blocked, and the others go on.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "settings.h"
#include "storage/ipc.h"
#include "store/live_catalog.h"
#include "store/live_segments.h"
#include "store/owner.h"
#include "store/rebuild_schema.h"
#include "store/relation_changes.h"
#include "store/rule_catalog.h"
#include "store/segment_catalog.h"
#include "store/sqlstate.h"
#include "store/user_code.h"
#include "store/xact.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#define MAX_PASSING_FAILURES 3	/* so many errors of the system, soon after each other, are the predicate's own */
#define SOON_US (10 * USECS_PER_MINUTE)

static PsLiveSet *loaded = NULL;
static MemoryContext loaded_context = NULL;
static bool stale = true;
static uint64 rules_loads = 0;
static Oid	relids[4];
static PsLiveSegment *calling = NULL;	/* whose predicate is compiled or evaluated */
static TimestampTz calling_at = DT_NOBEGIN; /* when that began */

static void
live_segments_relation_changed(Oid relid)
{
	stale |= relid == InvalidOid;
	for (int i = 0; i < lengthof(relids); i++)
		stale |= relid == relids[i];
}

static void
live_segments_catalog_changed(Datum arg, int cache, uint32 hash)
{
	stale = true;
}

/* At the exit of a process that ends because a predicate could not be cancelled: blocks it, so that the next process is spared. */
static void
live_segments_note_giving_up(int code, Datum arg)
{
	char		name[NAMEDATALEN];

	if (!ps_user_code_gave_up() || calling == NULL)
		return;
	strlcpy(name, calling->name, sizeof(name));
	(void) ps_user_code_end();
	AbortOutOfAnyTransaction();
	ps_begin();
	ps_segment_block(name, "the predicate took too long, and did not end when it was cancelled");
	ps_commit();
}

/* Finds the tables again: the extension may have been dropped and created since. */
static void
live_segments_watch(void)
{
	static const char *const tables[] = {"segments", "confirmed_code", "materialized_profiles"};
	static bool watching = false;

	if (!watching)
	{
		ps_on_relation_change(live_segments_relation_changed);
		CacheRegisterSyscacheCallback(PROCOID, live_segments_catalog_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(TYPEOID, live_segments_catalog_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(OPEROID, live_segments_catalog_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHOID, live_segments_catalog_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, live_segments_catalog_changed, (Datum) 0);
		before_shmem_exit(live_segments_note_giving_up, (Datum) 0);
	}
	watching = true;
	for (int i = 0; i < lengthof(tables); i++)
		relids[i] = ps_own_table(false, tables[i]);
	relids[lengthof(tables)] = get_relname_relid("profiles", ps_own_schema(false));
}

/* What a call of users' code does. */
typedef struct Call
{
	void		(*work) (void *arg);
	void	   *arg;
	Oid			owner;
	bool		keeps_settings; /* the result does not depend on them */
} Call;

/* Runs it as the owner. */
static void
call_as_owner(const Call *call)
{
	PsRole		back = ps_role_become(call->owner);
	const char *ending;

	if (!call->keeps_settings)
		ps_role_fix_settings();
	ps_user_code_begin(ps_handler_timeout_ms, "profile_stream.handler_timeout");
	call->work(call->arg);
	ending = ps_user_code_end();
	if (ending != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("the predicate %s", ending)));
	ps_role_return(back);
}

/* Counts an error of the system; whether it is still taken for one. */
static bool
is_passing_failure(void)
{
	if (calling_at - calling->failed_at > SOON_US)
		calling->passing_failures = 0;
	calling->failed_at = calling_at;
	return ++calling->passing_failures < MAX_PASSING_FAILURES;
}

/* Whether an error is not the predicate's: somebody cancels, or the system is to blame. */
static bool
live_segments_is_fault(const ErrorData *error, bool was_ended)
{
	if (was_ended)
		return false;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		return strcmp(error->funcname, "ProcessInterrupts") == 0;
	return ps_sqlstate_is_passing(error->sqlerrcode) && is_passing_failure();
}

/* Runs users' code in a subtransaction. Returns why it failed, or NULL. */
static char *
try_call(const Call *call)
{
	MemoryContext caller = CurrentMemoryContext;
	PsSubxact	outside = ps_subxact_begin();
	ErrorData  *volatile error = NULL;
	volatile bool was_ended = false;

	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		call_as_owner(call);
		ps_subxact_end(outside, true);
	}
	PG_CATCH();
	{
		const char *ending;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		ending = ps_user_code_is_on() ? ps_user_code_end() : NULL;
		was_ended = ending != NULL;
		if (was_ended)
			error->message = psprintf("the predicate %s", ending);
		ps_subxact_end(outside, false);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	if (error == NULL)
		return NULL;
	if (live_segments_is_fault(error, was_ended))
		ReThrowError(error);
	return error->message;
}

static void
block_calling(const char *why)
{
	calling->failed = true;
	ps_segment_block(calling->name, why);
}

typedef struct Compilation
{
	const char *text;
	PsLivePool *pool;
	PsLivePredicate *predicate;
	const char *why;
} Compilation;

static void
live_segments_compile(void *arg)
{
	Compilation *compilation = arg;

	/* the row may have been changed since create_segment() checked it */
	compilation->why = ps_segment_check(compilation->text);
	if (compilation->why == NULL)
		compilation->predicate = ps_live_predicate_make(compilation->text, compilation->pool, &compilation->why);
}

/* Compiles a segment in the current memory context; blocks it when that fails. */
static void
add_segment(PsLiveSet *set, const PsLiveRecord *record, PsLivePool *pool)
{
	PsLiveSegment *segment = &set->segments[set->nsegments];
	Compilation compilation = {record->predicate, pool};
	Call		call = {live_segments_compile, &compilation, record->owner};
	const char *why;

	*segment = (PsLiveSegment)
	{
		record->id, record->name, record->owner, record->quiet_us
	};
	calling = segment;
	why = try_call(&call);
	if (why == NULL && compilation.predicate == NULL)
		why = psprintf("it cannot be live: %s", compilation.why);
	if (why != NULL)
	{
		block_calling(why);
		return;
	}
	segment->predicate = compilation.predicate;
	set->reads_samples |= ps_live_predicate_reads_samples(segment->predicate);
	set->reads_attributes |= ps_live_predicate_reads_attributes(segment->predicate);
	set->last_id = Max(set->last_id, segment->id);
	set->is_filling |= record->is_filling;
	set->nsegments++;
}

static void
live_segments_load(void)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "profile_stream live segments", ALLOCSET_SMALL_SIZES);
	PsLiveSet  *set = MemoryContextAllocZero(context, sizeof(PsLiveSet));
	PsLivePool	pool = {0};
	List	   *records;
	ListCell   *cell;

	stale = false;				/* set before reading: a change from here on must make them stale again */
	calling_at = GetCurrentTimestamp();
	PG_TRY();
	{
		live_segments_watch();
		pool.metrics = &ps_rules_get()->metrics;
		rules_loads = ps_rules_loads();
		MemoryContextSwitchTo(context);
		records = ps_live_records();
		set->segments = palloc0(Max(list_length(records), 1) * sizeof(PsLiveSegment));
		foreach(cell, records)
		{
			add_segment(set, lfirst(cell), &pool);
		}
	}
	PG_CATCH();
	{
		calling = NULL;
		stale = true;
		PG_RE_THROW();
	}
	PG_END_TRY();
	calling = NULL;
	MemoryContextSwitchTo(caller);
	/* a trigger may apply events in a transaction that uses the old ones */
	if (loaded_context != NULL)
		MemoryContextSetParent(loaded_context, TopTransactionContext);
	MemoryContextSetParent(context, TopMemoryContext);
	loaded_context = context;
	loaded = set;
}

const PsLiveSet *
ps_live_segments(void)
{
	if (ps_rebuild_schema_used())
		return NULL;
	if (stale || rules_loads != ps_rules_loads())
		live_segments_load();
	return loaded->nsegments > 0 ? loaded : NULL;
}

struct PsLiveRun
{
	const PsLiveSet *set;
	MemoryContext memory;
	ExprContext *context;
	bool	   *begun;			/* whether a segment's predicate is ready to be evaluated */
};

PsLiveRun *
ps_live_run_begin(const PsLiveSet *set)
{
	PsLiveRun  *run = palloc(sizeof(PsLiveRun));

	run->set = set;
	run->memory = CurrentMemoryContext;
	run->context = CreateStandaloneExprContext();
	run->begun = palloc0(set->nsegments * sizeof(bool));
	return run;
}

bool
ps_live_segments_may_exist(void)
{
	return stale || rules_loads != ps_rules_loads() || loaded->nsegments > 0;
}

/* The segments of one owner, on profiles. */
typedef struct Evaluation
{
	PsLiveRun  *run;
	int			first;			/* of the owner's segments */
	int			end;
	PsStoredProfile **profiles;
	int			n;
	TimestampTz as_of;
	bool	   *holds;
	TimestampTz *due_at;
} Evaluation;

/* Makes the predicates ready, as their owner: he must have the right to call their functions. */
static void
begin_predicates(const Evaluation *e)
{
	PsLiveRun  *run = e->run;
	MemoryContext caller = MemoryContextSwitchTo(run->memory);

	for (int s = e->first; s < e->end; s++)
	{
		calling = &run->set->segments[s];
		if (!calling->failed && !run->begun[s])
			ps_live_predicate_begin(calling->predicate);
		run->begun[s] = true;
	}
	MemoryContextSwitchTo(caller);
}

static void
live_segments_evaluate(void *arg)
{
	Evaluation *e = arg;
	PsLiveSegment *segments = e->run->set->segments;

	begin_predicates(e);
	for (int i = 0; i < e->n; i++)
	{
		bool	   *holds = &e->holds[i * e->run->set->nsegments];

		ResetExprContext(e->run->context);
		ps_live_value_begin(e->profiles[i], e->as_of);
		for (int s = e->first; s < e->end; s++)
		{
			calling = &segments[s];
			holds[s] = !calling->failed && ps_live_predicate_holds(calling->predicate, e->run->context);
		}
		e->due_at[i] = Min(e->due_at[i], ps_live_value_due_at());
	}
	calling = NULL;
}

void
ps_live_evaluate(PsLiveRun *run, PsStoredProfile **profiles, int n, TimestampTz as_of, bool *holds, TimestampTz *due_at)
{
	const PsLiveSet *set = run->set;
	Evaluation	e = {run, 0, 0, profiles, n, as_of, holds, due_at};
	Call		call = {live_segments_evaluate, &e};

	calling_at = as_of;
	for (int i = 0; i < n; i++)
		due_at[i] = DT_NOEND;
	for (; e.first < set->nsegments && n > 0; e.first = e.end)
	{
		char	   *error;

		call.owner = set->segments[e.first].owner;
		call.keeps_settings = true;
		for (e.end = e.first; e.end < set->nsegments && set->segments[e.end].owner == call.owner; e.end++)
			call.keeps_settings &= !ps_live_predicate_reads_settings(set->segments[e.end].predicate);
		/* a segment that fails is left out of the next attempt */
		while ((error = try_call(&call)) != NULL)
			block_calling(error);
	}
	calling = NULL;
}

const char *
ps_live_check(const char *predicate, Oid owner)
{
	PsLivePool	pool = {&ps_rules_get()->metrics};
	Compilation compilation = {predicate, &pool};
	Call		call = {live_segments_compile, &compilation, owner};

	PG_TRY();
	{
		call_as_owner(&call);
	}
	PG_CATCH();
	{
		/* nothing of the code is left, whatever ended it */
		if (ps_user_code_is_on())
			(void) ps_user_code_end();
		PG_RE_THROW();
	}
	PG_END_TRY();
	return compilation.predicate == NULL ? compilation.why : NULL;
}
