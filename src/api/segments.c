/*
 * segments.c
 *	  create_segment(), alter_segment() and drop_segment().
 *
 *	  The table segments tells with whose rights code runs. So only these functions write
 *	  it, and they note the caller as the owner.
 */
#include "postgres.h"

#include "api/caller.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "store/confirmed_code.h"
#include "store/extension.h"
#include "store/function.h"
#include "store/live_segments.h"
#include "store/score_catalog.h"
#include "store/segment_catalog.h"
#include "store/user_code.h"
#include "store/xact.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define MAX_PREDICATE_BYTES 10000
#define MAX_QUIET_DAYS 366

/* What an argument asks for. */
typedef enum Evaluate
{
	WHERE_ALLOWED,				/* live where the predicate allows it */
	LIVE,
	BATCH
} Evaluate;

static Evaluate
get_evaluate(FunctionCallInfo fcinfo, int n)
{
	const char *word = ps_get_string(fcinfo, n);

	ps_check_argument(word == NULL || strcmp(word, "live") == 0 || strcmp(word, "batch") == 0, "evaluate must be live or batch");
	return word == NULL ? WHERE_ALLOWED : word[0] == 'l' ? LIVE : BATCH;
}

static Interval *
get_quiet_period(FunctionCallInfo fcinfo, int n)
{
	Interval   *interval = PG_GETARG_INTERVAL_P(n);

	ps_check_argument(interval->month == 0 && ps_interval_us(interval) >= 0, "quiet_period must not be negative, or have months or years");
	/* segment_changes are kept for the longest of them */
	ps_check_argument(ps_interval_us(interval) <= MAX_QUIET_DAYS * USECS_PER_DAY, "quiet_period must be at most " CppAsString2(MAX_QUIET_DAYS) " days");
	return interval;
}

/* Raises unless the predicate is one condition that the caller's rights allow. */
static void
check_predicate(const char *predicate)
{
	const char *wrong;

	ps_check_argument(strlen(predicate) <= MAX_PREDICATE_BYTES, "predicate must have at most " CppAsString2(MAX_PREDICATE_BYTES) " bytes");
	ps_guc_set_nested("standard_conforming_strings", "on");
	wrong = ps_segment_check(predicate);
	if (wrong != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("%s", wrong),
				 errhint("A predicate is a condition as in a WHERE clause on profile_stream.profiles: total_balance > 1000 AND segment = 'loyal'.")));
	ps_segment_try(predicate);
}

/* Decides whether a segment is live: as it is asked for, and else where its predicate allows it. */
static void
set_live(PsSegment *segment, Evaluate evaluate)
{
	const char *why;

	segment->is_live = false;
	if (evaluate == BATCH)
		return;
	why = ps_live_check(segment->predicate, segment->owner);
	if (why != NULL && evaluate == LIVE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the predicate of segment \"%s\" cannot be evaluated live: %s", segment->name, why),
				 errhint("With evaluate => 'batch' refresh_segments() evaluates it.")));
	if (why != NULL)
		ereport(NOTICE,
				(errmsg("segment \"%s\" is evaluated in batch: %s", segment->name, why),
				 errhint("refresh_segments() evaluates it, and profile_stream.score_interval lets the streams call that.")));
	segment->is_live = why == NULL;
}

PS_FUNCTION(ps_create_segment);
static Datum
ps_create_segment_checked(PG_FUNCTION_ARGS)
{
	PsSegment	segment = {.owner = GetUserId()};

	ps_function_refuse_nested("create_segment()");	/* to compile a predicate ends what restricts the code that called */
	ps_check_argument(!PG_ARGISNULL(0) && !PG_ARGISNULL(1) && !PG_ARGISNULL(3), "a segment needs a name, a predicate and a quiet_period");
	segment.name = ps_get_string(fcinfo, 0);
	segment.predicate = ps_get_string(fcinfo, 1);
	segment.quiet_period = get_quiet_period(fcinfo, 3);
	ps_check_argument(segment.name[0] != '\0' && strlen(segment.name) <= PS_MAX_SEGMENT_BYTES,
					  "name must have 1 to " CppAsString2(PS_MAX_SEGMENT_BYTES) " bytes");
	SPI_connect();
	check_predicate(segment.predicate);
	set_live(&segment, get_evaluate(fcinfo, 2));
	if (!ps_segment_create(&segment))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("segment \"%s\" already exists", segment.name),
				 errhint("drop_segment() removes it.")));
	SPI_finish();
	PG_RETURN_VOID();
}

/* The segment of that name; raises unless the caller owns it. */
static PsSegment *
find_own_segment(const char *name)
{
	List	   *found = ps_segments_find(name);
	PsSegment  *segment;

	if (found == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("segment \"%s\" does not exist", name),
				 errhint("The view stat_code lists them.")));
	segment = linitial(found);
	if (!superuser() && !has_privs_of_role(GetUserId(), segment->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of segment \"%s\"", name)));
	return segment;
}

PS_FUNCTION(ps_drop_segment);
static Datum
ps_drop_segment_checked(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	SPI_connect();
	(void) find_own_segment(name);
	ps_segment_drop(name);
	SPI_finish();
	PG_RETURN_VOID();
}

/* Checks the predicate of a segment again, as its owner. */
static void
check_as_owner(PsSegment *segment, Evaluate evaluate)
{
	PsRole		back = ps_role_become(segment->owner);

	check_predicate(segment->predicate);
	ps_role_return(back);
	set_live(segment, evaluate);
}

/* Raises when a predicate that nobody has confirmed would be evaluated, and confirmed, with rights that are not given here. */
static void
refuse_unconfirmed(const PsSegment *segment)
{
	if (!segment->confirmed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("segment \"%s\" is not confirmed", segment->name),
				 errhint(PS_CONFIRM_HINT)));
}

PS_FUNCTION(ps_alter_segment);
static Datum
ps_alter_segment_checked(PG_FUNCTION_ARGS)
{
	Evaluate	evaluate = get_evaluate(fcinfo, 3);
	PsSegment  *segment;
	Oid			owner;

	ps_function_refuse_nested("alter_segment()");
	ps_check_argument(!PG_ARGISNULL(0), "name must not be null");
	SPI_connect();
	segment = find_own_segment(ps_get_string(fcinfo, 0));
	if (PG_ARGISNULL(1) && PG_ARGISNULL(2))
		refuse_unconfirmed(segment);
	owner = PG_ARGISNULL(1) ? segment->owner : get_role_oid(NameStr(*PG_GETARG_NAME(1)), false);
	if (!PG_ARGISNULL(1))
		ps_check_set_role(owner);
	segment->owner = owner;
	if (!PG_ARGISNULL(2))
		segment->predicate = ps_get_string(fcinfo, 2);
	if (!PG_ARGISNULL(4))
		segment->quiet_period = get_quiet_period(fcinfo, 4);
	/* without another predicate or owner a segment in batch stays so, unless live is asked for */
	if (evaluate == WHERE_ALLOWED && !segment->is_live && PG_ARGISNULL(2))
		evaluate = BATCH;
	check_as_owner(segment, evaluate);
	ps_segment_alter(segment);
	SPI_finish();
	PG_RETURN_VOID();
}
