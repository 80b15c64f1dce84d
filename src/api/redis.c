/*
 * redis.c
 *	  What a session does with Redis: try a connection.
 */
#include "postgres.h"

#include "api/testing.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "sink/redis_client.h"
#include "sink/redis_options.h"
#include "storage/latch.h"
#include "utils/builtins.h"

void
ps_redis_finish(PsRedis *redis)
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
	ps_redis_finish(redis);
	ps_redis_close(redis);
	PG_RETURN_VOID();
}
