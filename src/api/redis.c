/*
 * redis.c
 *	  What a session does with Redis: try a connection and, for tests, write as a
 *	  relay does.
 */
#include "postgres.h"

#include "api/caller.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "sink/redis_client.h"
#include "sink/redis_options.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"

/* Lets the connection work until everything is answered, or raises why it is not. */
static void
redis_finish(PsRedis *redis)
{
	const char *error;
	const char *hint;

	while (ps_redis_work(redis, 0) == PS_REDIS_BUSY)
	{
		int			ready = WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH | ps_redis_events(redis),
											  ps_redis_socket(redis), ps_redis_timeout_ms(redis), PG_WAIT_EXTENSION);

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		(void) ps_redis_work(redis, ready);
	}
	if (ps_redis_work(redis, 0) == PS_REDIS_IDLE)
		return;
	error = ps_redis_error(redis, &hint);
	ereport(ERROR,
			(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
			 errmsg("%s", error),
			 hint != NULL ? errhint("%s", hint) : 0));
}

PG_FUNCTION_INFO_V1(ps_test_redis);
Datum
ps_test_redis(PG_FUNCTION_ARGS)
{
	PsRedis    *redis;

	ps_redis_check_built();
	redis = ps_redis_open(ps_redis_target(text_to_cstring(PG_GETARG_TEXT_PP(0)), GetUserId()), "", 1, "test");
	redis_finish(redis);
	ps_redis_close(redis);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_redis_write);
Datum
ps_redis_write(PG_FUNCTION_ARGS)
{
	static const char *const words[] = {"waiting", "written", "newer", "foreign"};
	PsRedis    *redis;
	PsRedisItem *items;
	Datum	   *columns[3];
	bool	   *nulls[3];
	int			n[3];
	Datum	   *results;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(3), TEXTOID, -1, false, TYPALIGN_INT, &columns[0], &nulls[0], &n[0]);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(4), INT8OID, 8, true, TYPALIGN_DOUBLE, &columns[1], &nulls[1], &n[1]);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(5), TEXTOID, -1, false, TYPALIGN_INT, &columns[2], &nulls[2], &n[2]);
	ps_check_argument(n[0] == n[1] && n[0] == n[2], "the arrays must be of the same length");
	ps_redis_check_built();
	items = palloc0(Max(n[0], 1) * sizeof(PsRedisItem));
	results = palloc(Max(n[0], 1) * sizeof(Datum));
	for (int i = 0; i < n[0]; i++)
	{
		ps_check_argument(!nulls[0][i] && !nulls[1][i], "only documents may be null");
		items[i].customer_id = TextDatumGetCString(columns[0][i]);
		items[i].version = DatumGetInt64(columns[1][i]);
		items[i].document = nulls[2][i] ? NULL : TextDatumGetCString(columns[2][i]);
	}

	redis = ps_redis_open(ps_redis_target(text_to_cstring(PG_GETARG_TEXT_PP(0)), GetUserId()),
						  text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_GETARG_INT32(2), "test");
	ps_redis_send(redis, items, n[0]);
	redis_finish(redis);
	ps_redis_close(redis);
	for (int i = 0; i < n[0]; i++)
		results[i] = CStringGetTextDatum(words[items[i].result]);
	PG_RETURN_ARRAYTYPE_P(construct_array(results, n[0], TEXTOID, -1, false, TYPALIGN_INT));
}
