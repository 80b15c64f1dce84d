/*
 * logged_reasons.h
 *	  Which reasons the log has: a reason is a line of it once, until what it is the
 *	  reason of is over.
 */
#ifndef PS_LOGGED_REASONS_H
#define PS_LOGGED_REASONS_H

#include "postgres.h"

#define PS_MAX_LOGGED_REASONS 8 /* reasons; more are not told */

typedef struct PsLoggedReasons
{
	uint32		reasons[PS_MAX_LOGGED_REASONS]; /* hashes */
	int			n;
} PsLoggedReasons;

/* Whether a reason has not been told; then it counts as told. */
extern bool ps_reason_is_new(PsLoggedReasons *logged, const char *reason);

#endif							/* PS_LOGGED_REASONS_H */
