/*
 * logged_reasons.c
 *	  Remembers reasons as hashes, without the parts that differ in each attempt.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "process/logged_reasons.h"

/* The hash of a reason without numbers and text in parentheses, where librdkafka puts details of an attempt. */
static uint32
hash_reason(const char *reason)
{
	char	   *kind = pstrdup(reason);
	int			n = 0;

	for (int depth = 0; *reason != '\0'; reason++)
	{
		depth += *reason == '(';
		if (depth <= 0 && !(*reason >= '0' && *reason <= '9'))
			kind[n++] = *reason;
		depth -= *reason == ')' && depth > 0;
	}
	return hash_bytes((const unsigned char *) kind, n);
}

bool
ps_reason_is_new(PsLoggedReasons *logged, const char *reason)
{
	uint32		hash = hash_reason(reason);

	for (int i = 0; i < logged->n; i++)
		if (logged->reasons[i] == hash)
			return false;
	if (logged->n == PS_MAX_LOGGED_REASONS)
		return false;
	logged->reasons[logged->n++] = hash;
	return true;
}
