/*
 * bookmark.c
 *	  Bookmarks, with which a client reads the profiles that changed since its last query.
 *
 *	  bookmark	system identifier, timeline, database and horizon, as one text
 *	  horizon	the oldest transaction that was still running for the client's snapshot:
 *				every change that the client has not seen is of this one or a later one
 *
 *	  doc/internals/decisions.md says why no change can be missed.
 */
#include "postgres.h"

#include "access/commit_ts.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "common/int.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "store/distributed.h"
#include "store/extension.h"
#include "store/outbox.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

/* transaction ids that are further apart cannot be compared */
#define MAX_AGE (UINT64CONST(1) << 31)

typedef struct PsBookmark
{
	uint64		system;
	uint64		timeline;
	uint64		database;
	uint64		horizon;
} PsBookmark;

/* The history of this server: transaction ids of another history mean nothing here. */
static PsBookmark
this_history(void)
{
	TimeLineID	timeline;
	PsBookmark	bookmark;

	if (RecoveryInProgress())
		(void) GetXLogReplayRecPtr(&timeline);
	else
		timeline = GetWALInsertionTimeLine();
	bookmark.system = GetSystemIdentifier();
	bookmark.timeline = timeline;
	bookmark.database = MyDatabaseId;
	bookmark.horizon = 0;
	return bookmark;
}

/* The horizon of the calling query's snapshot, as a 64-bit transaction id. */
static uint64
snapshot_horizon(void)
{
	uint64		next = U64FromFullTransactionId(ReadNextFullTransactionId());

	return next - (uint32) ((uint32) next - GetActiveSnapshot()->xmin);
}

/* Reads a number and the character after it; false when the text differs. */
static bool
bookmark_read_number(const char **at, char end, uint64 *number)
{
	const char *start = *at;

	for (*number = 0; **at >= '0' && **at <= '9'; (*at)++)
		if (pg_mul_u64_overflow(*number, 10, number) || pg_add_u64_overflow(*number, **at - '0', number))
			return false;
	return *at > start && *(*at)++ == end;
}

static PsBookmark
read_bookmark(const char *given)
{
	const char *at = given;
	PsBookmark	bookmark;

	if (!bookmark_read_number(&at, '-', &bookmark.system) || !bookmark_read_number(&at, '-', &bookmark.timeline) ||
		!bookmark_read_number(&at, '-', &bookmark.database) || !bookmark_read_number(&at, '\0', &bookmark.horizon))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not a bookmark", given),
				 errhint("Pass a bookmark of profiles_changed_since() or profile_bookmark(), or NULL for all profiles.")));
	return bookmark;
}

/*
 * The bookmark of the calling query's snapshot. The WAL is flushed first: after a crash
 * the server could otherwise use transaction ids below the horizon a second time.
 */
PS_FUNCTION(ps_profile_bookmark);
static Datum
ps_profile_bookmark_checked(PG_FUNCTION_ARGS)
{
	PsBookmark	bookmark = this_history();

	ps_distributed_check(InvalidOid);
	ps_distributed_refuse("profile_bookmark()");
	if (!RecoveryInProgress())
		ps_outbox_flush();
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(UINT64_FORMAT "-" UINT64_FORMAT "-" UINT64_FORMAT "-" UINT64_FORMAT,
											  bookmark.system, bookmark.timeline, bookmark.database, snapshot_horizon())));
}

/* The horizon of a bookmark as xid; null when it cannot be compared here, and the client must read everything. */
PS_FUNCTION(ps_bookmark_horizon);
static Datum
ps_bookmark_horizon_checked(PG_FUNCTION_ARGS)
{
	char	   *given = text_to_cstring(PG_GETARG_TEXT_PP(0));
	PsBookmark	bookmark = read_bookmark(given);
	PsBookmark	here = this_history();
	uint64		next = U64FromFullTransactionId(ReadNextFullTransactionId());

	ps_distributed_check(InvalidOid);
	ps_distributed_refuse("profiles_changed_since()");
	if (bookmark.system != here.system || bookmark.timeline != here.timeline || bookmark.database != here.database ||
		bookmark.horizon > next || next - bookmark.horizon >= MAX_AGE)
		PG_RETURN_NULL();
	PG_RETURN_TRANSACTIONID((TransactionId) bookmark.horizon);
}

/* The next transaction id, as of the statement's first row: the snapshot sees no row of it or a later one. */
static TransactionId
statement_next_xid(FmgrInfo *flinfo)
{
	TransactionId *next = flinfo->fn_extra;

	if (next == NULL)
	{
		next = MemoryContextAlloc(flinfo->fn_mcxt, sizeof(TransactionId));
		*next = ReadNextTransactionId();
		flinfo->fn_extra = next;
	}
	return *next;
}

/*
 * Whether the transaction of a row is the horizon or a later one; true without a horizon.
 * A row whose transaction seems to be in the future was frozen, more than 2^31
 * transactions ago.
 */
PS_FUNCTION(ps_xid_at_or_after);
static Datum
ps_xid_at_or_after_checked(PG_FUNCTION_ARGS)
{
	TransactionId xid = PG_GETARG_TRANSACTIONID(0);

	PG_RETURN_BOOL(PG_ARGISNULL(1) ||
				   ((int32) (xid - PG_GETARG_TRANSACTIONID(1)) >= 0 &&
					(int32) (xid - statement_next_xid(fcinfo->flinfo)) < 0));
}

/* Whether the server keeps commit times. A standby does what its primary does, which only the control file says. */
static bool
keeps_commit_times(void)
{
	ControlFileData *control;
	bool		is_valid;

	if (!RecoveryInProgress())
		return track_commit_timestamp;
	control = get_controlfile(DataDir, &is_valid);
	return is_valid && control->track_commit_timestamp;
}

PS_FUNCTION(ps_commit_time);
static Datum
ps_commit_time_checked(PG_FUNCTION_ARGS)
{
	static bool keeps;
	TransactionId xid = PG_GETARG_TRANSACTIONID(0);
	TimestampTz at;

	/* asked once a statement: what is not null marks that */
	if (fcinfo->flinfo->fn_extra == NULL)
	{
		keeps = keeps_commit_times();
		fcinfo->flinfo->fn_extra = &keeps;
	}
	if (!keeps || !TransactionIdIsNormal(xid) || !TransactionIdGetCommitTsData(xid, &at, NULL))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(at);
}
