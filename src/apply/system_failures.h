/*
 * system_failures.h
 *	  Counts the system errors of users' functions, for each event or message that they
 *	  were called for.
 */
#ifndef PS_SYSTEM_FAILURES_H
#define PS_SYSTEM_FAILURES_H

#include "utils/hsearch.h"

/*
 * Counts a system error of a call. Returns whether another attempt may help; false when
 * there were so many that the error counts as the event's own. whose and which tell what
 * the call was for, among all calls of the table.
 */
extern bool ps_system_failure_may_pass(HTAB **known, int64 whose, int64 which, int sqlerrcode);

#endif							/* PS_SYSTEM_FAILURES_H */
