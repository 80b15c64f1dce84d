/*
 * system_failures.c
 *	  A system error, as a deadlock or an internal error, ends the transaction, which is
 *	  tried again. A function may raise one each time. So an event's first failures count as
 *	  the system's, and from then on as its own.
 *
 *	  An internal error that lasted through the attempts of one event does not pass. So the
 *	  next events that raise it get none, or each of them would cost the stream a wait.
 *
 *	  An entry stays until its batch is through. If it could be lost before, two such events
 *	  of a batch could make each other begin anew, and the stream would never go on.
 */
#include "postgres.h"

#include "apply/system_failures.h"
#include "clock.h"

#define MAX_FAILURES 3			/* errors of the system for an event or a message, before they count as its own */
#define SOON_MS 600000			/* failures that are further apart have nothing to do with each other */
#define MAX_KNOWN 100000		/* as many as a batch has messages at most */

typedef struct FailedCall
{
	int64		whose;
	int64		which;
} FailedCall;

typedef struct KnownFailures
{
	FailedCall	call;			/* the key */
	int			failures;
	PsMoment	last;			/* when the last one was */
} KnownFailures;

/* The table, emptied when it is full. */
static HTAB *
system_failures_table(HTAB **known)
{
	HASHCTL		info = {.keysize = sizeof(FailedCall),.entrysize = sizeof(KnownFailures)};

	if (*known != NULL && hash_get_num_entries(*known) >= MAX_KNOWN)
	{
		hash_destroy(*known);
		*known = NULL;
	}
	if (*known == NULL)
		*known = hash_create("profile_stream system failures", 64, &info, HASH_ELEM | HASH_BLOBS);
	return *known;
}

/* Whether it is an internal error that lasted a moment ago; with lasts notes that it does. */
static bool
is_lasting(int sqlerrcode, PsMoment now, bool lasts)
{
	static int	lasting = 0;
	static PsMoment until = PS_MOMENT_PAST;

	if (ERRCODE_TO_CATEGORY(sqlerrcode) != ERRCODE_INTERNAL_ERROR)
		return false;
	if (lasts)
	{
		lasting = sqlerrcode;
		until = ps_moment_plus(now, SOON_MS);
	}
	return lasting == sqlerrcode && now < until;
}

bool
ps_system_failure_may_pass(HTAB **known, int64 whose, int64 which, int sqlerrcode)
{
	FailedCall	call = {whose, which};
	PsMoment	now = ps_clock_now();
	bool		found;
	KnownFailures *entry = hash_search(system_failures_table(known), &call, HASH_ENTER, &found);

	if (!found || ps_moment_plus(entry->last, SOON_MS) < now)
		entry->failures = 0;
	entry->last = now;
	return !is_lasting(sqlerrcode, now, ++entry->failures >= MAX_FAILURES) && entry->failures < MAX_FAILURES;
}
