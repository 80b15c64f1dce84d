/*
 * logged_reasons.h
 *	  Keeps the server's log short: while a trouble lasts, each reason for it becomes one
 *	  line, not one line per attempt.
 */
#ifndef PS_LOGGED_REASONS_H
#define PS_LOGGED_REASONS_H

#include "postgres.h"

#define PS_MAX_LOGGED_REASONS 8 /* further reasons are not logged */

typedef struct PsLoggedReasons
{
	uint32		reasons[PS_MAX_LOGGED_REASONS]; /* hashes */
	int			n;
} PsLoggedReasons;

/* Whether a reason has not been logged since the trouble began; notes it as logged. */
extern bool ps_reason_is_new(PsLoggedReasons *logged, const char *reason);

#endif							/* PS_LOGGED_REASONS_H */
