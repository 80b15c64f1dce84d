/*
 * backoff.c
 *	  The wait after failures: it doubles each time.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "process/backoff.h"

#define FIRST_MS 1000
#define MAX_MS 60000

int64
ps_backoff_ms(int failures)
{
	int64		wait = Min(MAX_MS, (int64) FIRST_MS << Min(failures, 6));

	return wait + (int64) (pg_prng_double(&pg_global_prng_state) * wait / 4);
}
