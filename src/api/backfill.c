/*
 * backfill.c
 *	  The procedure backfill(), and drop_backfill().
 *
 *	  One transaction reads the query's rows and puts them on disk. Then each batch is
 *	  applied in a transaction of its own, which also stores the place of its last row.
 *	  So a call that ends early loses nothing, and the next call goes on there.
 *
 *	  Each of these steps has a subtransaction: after an error the catalog says why, and
 *	  the error is raised again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/caller.h"
#include "apply/backfill_batch.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "process/lease.h"
#include "settings.h"
#include "store/extension.h"
#include "store/locks.h"
#include "store/xact.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PS_FUNCTION(ps_backfill);
PS_FUNCTION(ps_drop_backfill);

#define MAX_QUERY_BYTES 100000

/* A lease of no stream, by which stat_backfills knows that a call runs. */
#define LEASE_OF(backfill) 0, ((uint32) ((backfill)->backfill_id & 0x7FFFFFFF) | 0x80000000)

typedef struct Call
{
	PsStream   *stream;
	PsBackfill *backfill;
	PsBackfillRows *rows;		/* NULL: not read yet */
	PsBackfillBatch batch;
	MemoryContext home;			/* lives as long as the call */
	MemoryContext batch_context;
	int			max;			/* rows of a batch */
	bool		has_lease;
} Call;

/* Sets up the transaction of a step. */
static void
begin_step(void)
{
	CHECK_FOR_INTERRUPTS();
	/* after a wait for locks the step must see what was committed meanwhile */
	ps_guc_set_local("transaction_isolation", "read committed");
	ps_guc_set_local("standard_conforming_strings", "on");
	ps_bootstrap_lock("backfill()");
	ps_lock_tables();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
end_step(void)
{
	PopActiveSnapshot();
	SPI_commit();
}

/* Notes in the catalog why the call ends, and raises the error. */
static void
backfill_fail(Call *call, ErrorData *error)
{
	PushActiveSnapshot(GetTransactionSnapshot());
	ps_backfill_end(call->backfill->backfill_id, error->message);
	end_step();
	ReThrowError(error);
}

/* Does a step in a subtransaction, and commits. */
static void
do_step(Call *call, void (*step) (Call *call))
{
	PsSubxact	outside;
	ErrorData  *volatile error = NULL;

	begin_step();
	outside = ps_subxact_begin();
	PG_TRY();
	{
		step(call);
		ps_subxact_end(outside, true);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(call->home);
		error = CopyErrorData();
		FlushErrorState();
		ps_subxact_end(outside, false);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(call->home);
	if (error != NULL)
	{
		PopActiveSnapshot();
		backfill_fail(call, error);
	}
	end_step();
	MemoryContextSwitchTo(call->home);
}

static void
step_read(Call *call)
{
	PsBackfillPosition everything = {0};

	MemoryContextSwitchTo(call->home);
	call->rows = ps_backfill_rows_read(call->backfill, &call->backfill->position, &everything);
}

/* Applies what the lock table allows of the batch. */
static void
step_apply(Call *call)
{
	PsApplySettings settings = ps_backfill_settings(call->stream, false);
	PsBackfillCounts counts;
	PsBackfillPosition position;

	MemoryContextSwitchTo(call->batch_context);
	ps_backfill_apply(&call->batch, &settings, &counts, &position);
	PS_FAILPOINT("backfill_applied");
	ps_backfill_note(call->backfill->backfill_id, &position, &counts);
}

static void
step_end(Call *call)
{
	ps_backfill_end(call->backfill->backfill_id, NULL);
}

/* Reads the rows and applies them. */
static void
backfill_run(Call *call)
{
	do_step(call, step_read);
	PS_FAILPOINT("backfill_read");
	for (;;)
	{
		MemoryContextReset(call->batch_context);
		MemoryContextSwitchTo(call->batch_context);
		if (!ps_backfill_read_batch(call->rows, call->backfill->name, call->max, &call->batch))
			break;
		MemoryContextSwitchTo(call->home);
		while (call->batch.done < call->batch.n)
			do_step(call, step_apply);
	}
	MemoryContextSwitchTo(call->home);
	do_step(call, step_end);
}

/*
 * Whether a backfill that was called before has this query. Raises when it has another
 * one of which rows are done, or when the caller has not its owner's rights.
 */
static bool
has_query(const PsBackfill *backfill, const PsStream *stream, const char *query)
{
	if (!superuser() && !has_privs_of_role(GetUserId(), backfill->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of backfill \"%s\"", backfill->name)));
	if (strcmp(backfill->query, query) == 0)
		return true;
	if (backfill->position.event_id != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("backfill \"%s\" of stream \"%s\" has another query", backfill->name, stream->name),
				 errhint("Give the new one a name => '...'. profile_stream.stat_code shows the query that it has; drop_backfill() forgets it.")));
	return false;
}

/* Finds the backfill that the call goes on with, or adds it; takes its lease. */
static void
find_or_add(Call *call, const char *name, const char *query)
{
	call->backfill = ps_backfill_find(call->stream->stream_id, name);
	if (call->backfill != NULL && !has_query(call->backfill, call->stream, query))
	{
		ps_backfill_drop(call->backfill->backfill_id);
		call->backfill = NULL;
	}
	if (call->backfill == NULL)
	{
		call->backfill = palloc0(sizeof(PsBackfill));
		call->backfill->stream_id = call->stream->stream_id;
		call->backfill->name = name;
		call->backfill->owner = GetUserId();
		call->backfill->query = query;
		ps_backfill_add(call->backfill);
	}
	call->has_lease = ps_lease_take(LEASE_OF(call->backfill));
	if (!call->has_lease)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("backfill \"%s\" of stream \"%s\" is already running", name, call->stream->name),
				 errhint("See profile_stream.stat_backfills. pg_cancel_backend() ends it, and the next call goes on.")));
}

/* Begins a call that has the lease: until then the position may have moved. */
static void
backfill_begin_call(Call *call)
{
	PsBackfill *now = ps_backfill_find(call->stream->stream_id, call->backfill->name);

	if (now == NULL || now->backfill_id != call->backfill->backfill_id)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("backfill \"%s\" was dropped", call->backfill->name)));
	call->backfill = now;
	ps_backfill_begin(now->backfill_id);
}

static void
backfill_release(Call *call)
{
	if (call->has_lease)
		ps_lease_release(LEASE_OF(call->backfill));
	if (call->rows != NULL)
		ps_backfill_rows_close(call->rows);
}

/* Runs the call; a session would keep the lease and the file of rows after an error. */
static void
run_call(Call *call, text *stream, const char *name, const char *query)
{
	PG_TRY();
	{
		begin_step();
		MemoryContextSwitchTo(call->home);
		call->stream = ps_find_stream(stream, true);
		find_or_add(call, name, query);
		end_step();
		begin_step();
		MemoryContextSwitchTo(call->home);
		backfill_begin_call(call);
		end_step();
		backfill_run(call);
	}
	PG_CATCH();
	{
		backfill_release(call);
		PG_RE_THROW();
	}
	PG_END_TRY();
	backfill_release(call);
}

static Datum
ps_backfill_checked(PG_FUNCTION_ARGS)
{
	Call		call = {.max = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT32(2)};
	char	   *stream = ps_get_name(fcinfo, 0, "stream", NAMEDATALEN - 1);
	char	   *query = ps_get_name(fcinfo, 1, "query", MAX_QUERY_BYTES);
	char	   *name = ps_get_name(fcinfo, 3, "name", NAMEDATALEN - 1);

	ps_check_argument(call.max >= 1 && call.max <= PS_MAX_BACKFILL_BATCH, "batch must be between 1 and " CppAsString2(PS_MAX_BACKFILL_BATCH));
	ps_backfill_check_query(query);
	ps_check_not_atomic(fcinfo, "backfill()", "Call it outside of a transaction block.");
	PreventCommandIfReadOnly("backfill()");
	PreventCommandDuringRecovery("backfill()");
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	/* the memory of SPI lives longer than the transactions of the procedure */
	call.home = AllocSetContextCreate(CurrentMemoryContext, "profile_stream backfill call", ALLOCSET_DEFAULT_SIZES);
	call.batch_context = AllocSetContextCreate(call.home, "profile_stream backfill batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(call.home);
	stream = pstrdup(stream);
	query = pstrdup(query);
	name = pstrdup(name);
	SPI_commit();				/* the rows must be as new as the locks */
	run_call(&call, cstring_to_text(stream), name, query);
	SPI_finish();
	PG_RETURN_VOID();
}

static Datum
ps_drop_backfill_checked(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	PsStream   *stream;
	PsBackfill *backfill;

	SPI_connect();
	stream = ps_find_stream(PG_GETARG_TEXT_PP(0), true);
	ps_bootstrap_lock("drop_backfill()");
	backfill = ps_backfill_find(stream->stream_id, name);
	if (backfill == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("backfill \"%s\" of stream \"%s\" does not exist", name, stream->name),
				 errhint("profile_stream.stat_backfills lists them.")));
	if (!ps_lease_take(LEASE_OF(backfill)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("backfill \"%s\" of stream \"%s\" is running", name, stream->name),
				 errhint("See profile_stream.stat_backfills. pg_cancel_backend() ends it.")));
	ps_lease_release(LEASE_OF(backfill));
	ps_backfill_drop(backfill->backfill_id);
	SPI_finish();
	PG_RETURN_VOID();
}
