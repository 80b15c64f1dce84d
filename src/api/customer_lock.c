/*
 * customer_lock.c
 *	  lock_customer(), try_lock_customer(): the locks under which events are applied,
 *	  for those who write profiles themselves.
 */
#include "postgres.h"

#include "api/caller.h"
#include "fmgr.h"
#include "store/extension.h"
#include "store/locks.h"
#include "store/shard_fence.h"
#include "utils/builtins.h"

/* The key of the customer that a call names. */
static int64
customer_key(FunctionCallInfo fcinfo)
{
	text	   *customer_id = PG_GETARG_TEXT_PP(0);

	ps_check_argument(VARSIZE_ANY_EXHDR(customer_id) > 0, "customer_id must not be empty");
	ps_shard_keep_customer(VARDATA_ANY(customer_id), VARSIZE_ANY_EXHDR(customer_id));	/* other nodes do not see the
																						 * lock */
	return ps_lock_key(VARDATA_ANY(customer_id), VARSIZE_ANY_EXHDR(customer_id));
}

PS_FUNCTION(ps_lock_customer);
static Datum
ps_lock_customer_checked(PG_FUNCTION_ARGS)
{
	int64		key = customer_key(fcinfo);

	ps_lock_customers(&key, 1);
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_try_lock_customer);
static Datum
ps_try_lock_customer_checked(PG_FUNCTION_ARGS)
{
	int64		key = customer_key(fcinfo);
	bool		had;

	ps_lock_customers_within(&key, 1, 0, &had);
	PG_RETURN_BOOL(had);
}
