/*
 * redis.c
 *	  test_redis() tries a Redis as a relay would use it.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "process/wait_event.h"
#include "sink/sink.h"
#include "storage/latch.h"
#include "store/extension.h"
#include "utils/builtins.h"

/* Waits until the sink is connected, and has delivered what was sent; raises why it cannot. */
static void
finish_sink(PsSink *sink)
{
	const PsSinkMethods *methods = sink->methods;
	PsSinkState state;
	const char *error;
	const char *hint = NULL;

	while ((state = methods->work(sink, 0)) == PS_SINK_BUSY)
	{
		int			ready = WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH | methods->events(sink),
											  methods->socket(sink), methods->timeout_ms(sink), ps_wait_event(PS_WAIT_SINK));

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		(void) methods->work(sink, ready);
	}
	if (state == PS_SINK_IDLE)
		return;
	error = methods->error(sink, &hint);
	ereport(ERROR,
			(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
			 errmsg("%s", error ? error : "Redis closed the connection"),
			 hint != NULL ? errhint("%s", hint) : 0));
}

PS_FUNCTION(ps_test_redis);
static Datum
ps_test_redis_checked(PG_FUNCTION_ARGS)
{
	PsStream   *stream = palloc0(sizeof(PsStream));
	PsSink	   *sink = ps_sink_create(PS_SINK_REDIS, 0);

	/* a stream that has nothing but this sink; no stream has the number 0 */
	stream->sinks[PS_SINK_REDIS] = text_to_cstring(PG_GETARG_TEXT_PP(0));
	stream->redis_prefix = "";
	stream->redis_ttl_s = 1;
	(void) sink->methods->configure(sink, stream, GetUserId());
	sink->methods->connect(sink);
	finish_sink(sink);
	sink->methods->disconnect(sink);
	PG_RETURN_VOID();
}
