/*
 * bookmark.c
 *	  Bookmarks, with which a client reads the profiles that changed since its last query.
 *
 *	  bookmark	system identifier, timeline, database and horizon, as one text. Where Citus has
 *				distributed the profiles, one for each node, each with the number of its group:
 *				nodes that were copied from one server have one system identifier
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
#include "store/shards.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

/* transaction ids that are further apart cannot be compared */
#define MAX_AGE (UINT64CONST(1) << 31)

#define NO_GROUP (-1)			/* the server is no node of Citus */

typedef struct PsBookmark
{
	uint64		system;
	uint64		timeline;
	uint64		database;
	uint64		horizon;
	int64		group;			/* of the node */
} PsBookmark;

/* A bookmark that was asked for last by a call in a statement. */
typedef struct KnownBookmark
{
	text	   *given;
	bool		has_horizon;
	TransactionId horizon;
	TransactionId next;			/* the next transaction id, as of the statement's first row */
} KnownBookmark;

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
	bookmark.group = ps_distributed() ? ps_shards_group() : NO_GROUP;
	return bookmark;
}

/* The horizon of the calling query's snapshot, as a 64-bit transaction id. */
static uint64
snapshot_horizon(void)
{
	uint64		next = U64FromFullTransactionId(ReadNextFullTransactionId());

	return next - (uint32) ((uint32) next - GetActiveSnapshot()->xmin);
}

/* Reads a number; false when there is none. */
static bool
bookmark_read_number(const char **at, uint64 *number)
{
	const char *start = *at;

	for (*number = 0; **at >= '0' && **at <= '9'; (*at)++)
		if (pg_mul_u64_overflow(*number, 10, number) || pg_add_u64_overflow(*number, **at - '0', number))
			return false;
	return *at > start;
}

/* The same, and the character after it. */
static bool
read_number_and(const char **at, char end, uint64 *number)
{
	return bookmark_read_number(at, number) && *(*at)++ == end;
}

/* Reads the bookmark of one node; false when the text differs. */
static bool
read_node(const char **at, PsBookmark *bookmark)
{
	uint64		group;

	bookmark->group = NO_GROUP;
	if (!read_number_and(at, '-', &bookmark->system) || !read_number_and(at, '-', &bookmark->timeline) ||
		!read_number_and(at, '-', &bookmark->database) || !bookmark_read_number(at, &bookmark->horizon))
		return false;
	if (**at != '@')
		return true;
	(*at)++;
	if (!bookmark_read_number(at, &group) || group > PG_INT32_MAX)
		return false;
	bookmark->group = (int64) group;
	return true;
}

/* Finds the horizon of this server in a bookmark; false when it has none, or one that cannot be compared here. */
static bool
find_horizon(const char *given, TransactionId * horizon)
{
	PsBookmark	here = this_history();
	PsBookmark	bookmark;
	uint64		next = U64FromFullTransactionId(ReadNextFullTransactionId());
	const char *at = given;
	bool		found = false;

	for (;;)
	{
		if (!read_node(&at, &bookmark) || (*at != ',' && *at != '\0'))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("\"%s\" is not a bookmark", given),
					 errhint("Pass a bookmark of profiles_changed_since() or profile_bookmark(), or NULL for all profiles.")));
		if (!found && bookmark.system == here.system && bookmark.timeline == here.timeline && bookmark.database == here.database &&
			bookmark.group == here.group && bookmark.horizon <= next && next - bookmark.horizon < MAX_AGE)
		{
			found = true;
			*horizon = (TransactionId) bookmark.horizon;
		}
		if (*at++ == '\0')
			return found;
	}
}

/* The bookmark of a snapshot here. The WAL is flushed first: after a crash the server could otherwise use transaction ids below the horizon a second time. */
static text *
make_bookmark(void)
{
	PsBookmark	bookmark = this_history();
	char	   *made = psprintf(UINT64_FORMAT "-" UINT64_FORMAT "-" UINT64_FORMAT "-" UINT64_FORMAT,
								bookmark.system, bookmark.timeline, bookmark.database, snapshot_horizon());

	if (!RecoveryInProgress())
		ps_outbox_flush();
	if (bookmark.group != NO_GROUP)
		made = psprintf("%s@" INT64_FORMAT, made, bookmark.group);
	return cstring_to_text(made);
}

/* The bookmark of the calling query's snapshot. */
PS_FUNCTION(ps_profile_bookmark);
static Datum
ps_profile_bookmark_checked(PG_FUNCTION_ARGS)
{
	ps_distributed_check(InvalidOid);
	ps_distributed_refuse("profile_bookmark()");
	PG_RETURN_TEXT_P(make_bookmark());
}

/* The same of this node alone. */
PS_FUNCTION(ps_node_bookmark);
static Datum
ps_node_bookmark_checked(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(make_bookmark());
}

/* The horizon of a bookmark as xid; null when it cannot be compared here, and the client must read everything. */
PS_FUNCTION(ps_bookmark_horizon);
static Datum
ps_bookmark_horizon_checked(PG_FUNCTION_ARGS)
{
	TransactionId horizon;

	ps_distributed_check(InvalidOid);
	if (!find_horizon(text_to_cstring(PG_GETARG_TEXT_PP(0)), &horizon))
		PG_RETURN_NULL();
	PG_RETURN_TRANSACTIONID(horizon);
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
 * Whether the transaction of a row is the horizon or a later one. A row whose transaction
 * seems to be in the future was frozen, more than 2^31 transactions ago.
 */
static bool
is_since(TransactionId xid, TransactionId horizon, TransactionId next)
{
	return (int32) (xid - horizon) >= 0 && (int32) (xid - next) < 0;
}

/* The same for a row; true without a horizon. */
PS_FUNCTION(ps_xid_at_or_after);
static Datum
ps_xid_at_or_after_checked(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_ARGISNULL(1) ||
				   is_since(PG_GETARG_TRANSACTIONID(0), PG_GETARG_TRANSACTIONID(1), statement_next_xid(fcinfo->flinfo)));
}

/* The bookmark of a call, and its horizon here, found once for all rows of a statement unless it changes. */
static const KnownBookmark *
bookmark_of_call(FunctionCallInfo fcinfo, int argument)
{
	KnownBookmark *kept = fcinfo->flinfo->fn_extra;
	text	   *given = PG_GETARG_TEXT_PP(argument);
	MemoryContext caller;

	if (kept != NULL && VARSIZE_ANY_EXHDR(given) == VARSIZE_ANY_EXHDR(kept->given) &&
		memcmp(VARDATA_ANY(given), VARDATA_ANY(kept->given), VARSIZE_ANY_EXHDR(given)) == 0)
		return kept;
	caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	kept = palloc0(sizeof(KnownBookmark));
	kept->given = (text *) PG_DETOAST_DATUM_COPY(PointerGetDatum(given));
	MemoryContextSwitchTo(caller);
	kept->has_horizon = find_horizon(text_to_cstring(given), &kept->horizon);
	kept->next = ReadNextTransactionId();
	fcinfo->flinfo->fn_extra = kept;
	return kept;
}

/* Whether a row on this node may have changed since a bookmark; true without one. */
PS_FUNCTION(ps_changed_since);
static Datum
ps_changed_since_checked(PG_FUNCTION_ARGS)
{
	const KnownBookmark *bookmark;

	if (PG_ARGISNULL(1))
		PG_RETURN_BOOL(true);
	bookmark = bookmark_of_call(fcinfo, 1);
	PG_RETURN_BOOL(!bookmark->has_horizon || is_since(PG_GETARG_TRANSACTIONID(0), bookmark->horizon, bookmark->next));
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
