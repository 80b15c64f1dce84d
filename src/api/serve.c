/*
 * serve.c
 *	  serve_profile() reads a profile, and has the relays write it to every Redis of the
 *	  streams.
 *
 *	  The session itself never writes to Redis: a relay delivers the profile as it is then,
 *	  by its script. So no older version replaces a newer one, and a customer who is
 *	  forgotten meanwhile does not come back.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "api/metric_values.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "store/extension.h"
#include "store/outbox.h"
#include "store/served.h"
#include "store/shard_fence.h"
#include "store/shards.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define MAX_PAUSE (30 * USECS_PER_SEC)

/* The document as get_profile() returns it; 0: there is none. */
static Datum
read_document(Datum customer_id)
{
	LOCAL_FCINFO(call, 2);
	Datum		document;

	InitFunctionCallInfoData(*call, NULL, 2, InvalidOid, NULL, NULL);
	call->args[0] = (NullableDatum)
	{
		customer_id, false
	};
	call->args[1].isnull = true;	/* as of now */
	document = ps_get_profile(call);
	return call->isnull ? (Datum) 0 : document;
}

/*
 * Has the profile delivered, unless it was lately: within half of the time for which
 * a key lives, so that the key of a profile that is asked for does not expire. A
 * Redis that lost its keys gets them again within the longest pause.
 */
static void
send_to_redis(const char *customer_id)
{
	int64		ttl_s;

	SPI_connect();
	ttl_s = ps_watches_redis_ttl_s();
	if (ttl_s > 0 && !ps_served_recently(customer_id, Min(ttl_s * USECS_PER_SEC / 2, MAX_PAUSE)))
	{
		ps_outbox_serve(customer_id);
		ps_served_note(customer_id);
	}
	SPI_finish();
}

PS_FUNCTION(ps_serve_profile);
static Datum
ps_serve_profile_checked(PG_FUNCTION_ARGS)
{
	text	   *customer_id = PG_GETARG_TEXT_PP(0);
	volatile Datum document = (Datum) 0;

	ps_shard_keep_customer(VARDATA_ANY(customer_id), VARSIZE_ANY_EXHDR(customer_id));
	PG_TRY();
	{
		ps_shards_use_customer(VARDATA_ANY(customer_id), VARSIZE_ANY_EXHDR(customer_id));
		document = read_document(PG_GETARG_DATUM(0));
		if (document != (Datum) 0 && !XactReadOnly && !RecoveryInProgress())
			send_to_redis(text_to_cstring(customer_id));
	}
	PG_FINALLY();
	{
		ps_shards_use(PS_NO_SHARD);
	}
	PG_END_TRY();
	if (document == (Datum) 0)
		PG_RETURN_NULL();
	return document;
}
