/*
 * test_functions.c
 *	  Functions that only tests call, in a build with FAILPOINTS=yes alone;
 *	  test/functions.sql declares them.
 *
 *	  decode_fuzz		tests the decoder with damaged events
 *	  parser_fuzz		gives damaged bytes to the parsers beside the decoder
 *	  notification		the payload with which a change is announced
 *	  redis_write		writes to Redis as a relay does
 *	  try_id_filter		gives a session the filter of event ids that workers have
 *	  filtered_ids		how many ids it has
 *	  take_segments		takes the dynamic shared memory of the server
 *	  sweep_segments	visits customers as a worker does, whose live segments change with time
 */
#include "postgres.h"

#include "api/caller.h"
#include "api/testing.h"
#include "apply/live.h"
#include "apply/notify.h"
#include "catalog/pg_type.h"
#include "core/field_map.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "sink/redis_client.h"
#include "sink/redis_options.h"
#include "storage/dsm.h"
#include "storage/latch.h"
#include "store/event_id_filter.h"
#include "testing/fuzz.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Fuzzing: a fixed moment, so that a seed gives the same events for ever. */
#define FUZZ_NOW INT64CONST(820540800000000)	/* 2026-01-01 */

/* Whether the profile event that a message is made into has another outcome than the message. */
static bool
differs_canonical(const PsReject *reject, const PsMessage *message, const PsDecodeSettings *settings)
{
	PsDecodeSettings plain = {settings->now, settings->max_clock_skew_us, 10 * PS_FUZZ_MAX_BYTES};
	PsMessage	canonical = {0};
	PsMembers	members;
	PsEvent		event;
	Jsonb	   *jsonb;

	if (ps_members_read(message, settings, &members) != NULL || members.error != NULL || members.is_ignored)
		return false;
	jsonb = DatumGetJsonbP(ps_members_jsonb(&members, settings->time_unit));
	canonical.value = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
	canonical.value_len = strlen(canonical.value);
	return (ps_event_decode(&canonical, &plain, &event) == NULL) != (reject == NULL);
}

/* What does not hold for the decoder's answer, NULL when all does. */
static const char *
fuzz_check(const PsMessage *message, const PsReject *reject, const PsEvent *event, const PsDecodeSettings *settings)
{
	const char *wrong = reject != NULL ? ps_fuzz_check_reject(reject) : ps_fuzz_check_event(event, settings);

	if (wrong == NULL && reject == NULL && !event->is_ignored && event->payload != NULL &&
		JB_ROOT_COUNT(DatumGetJsonbP(ps_payload_jsonb(event))) != event->nfields)
		wrong = "payload";
	if (wrong == NULL && differs_canonical(reject, message, settings))
		wrong = "canonical event";
	return wrong;
}

PG_FUNCTION_INFO_V1(ps_decode_fuzz);
Datum
ps_decode_fuzz(PG_FUNCTION_ARGS)
{
	int32		iterations = PG_GETARG_INT32(1);
	PsDecodeSettings settings = {FUZZ_NOW, USECS_PER_HOUR, PS_FUZZ_MAX_BYTES};
	MemoryContext context;
	MemoryContext outer;
	char		bytes[PS_FUZZ_MAX_BYTES];
	pg_prng_state prng;
	int64		valid = 0;

	ps_check_argument(!PG_ARGISNULL(0) && !PG_ARGISNULL(1) && !PG_ARGISNULL(2), "seed, iterations and format must not be null");
	settings.format_map = ps_field_map_compile(text_to_cstring(PG_GETARG_TEXT_PP(2)), PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3));
	context = AllocSetContextCreate(CurrentMemoryContext, "profile_stream decode_fuzz", ALLOCSET_DEFAULT_SIZES);
	outer = MemoryContextSwitchTo(context);
	pg_prng_seed(&prng, (uint64) PG_GETARG_INT32(0));
	for (int32 i = 0; i < iterations; i++)
	{
		PsEvent		event;
		PsMessage	message;
		PsReject   *reject;
		const char *wrong;

		CHECK_FOR_INTERRUPTS();
		ps_fuzz_fill(&prng, settings.format_map, bytes, &message);
		reject = ps_event_decode(&message, &settings, &event);
		wrong = fuzz_check(&message, reject, &event, &settings);
		if (wrong != NULL)
			elog(ERROR, "decode_fuzz: %s does not hold", wrong);
		valid += reject == NULL && !event.is_ignored;
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
	PG_RETURN_INT64(valid);
}

PG_FUNCTION_INFO_V1(ps_parser_fuzz);
Datum
ps_parser_fuzz(PG_FUNCTION_ARGS)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "profile_stream parser_fuzz", ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	pg_prng_state prng;

	pg_prng_seed(&prng, (uint64) PG_GETARG_INT32(0));
	for (int32 i = PG_GETARG_INT32(1); i > 0; i--)
	{
		const char *wrong = ps_fuzz_parsers(&prng);

		if (wrong == NULL)
			wrong = ps_fuzz_packed(&prng);
		CHECK_FOR_INTERRUPTS();
		if (wrong != NULL)
			elog(ERROR, "parser_fuzz: %s does not hold", wrong);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_notification);
Datum
ps_notification(PG_FUNCTION_ARGS)
{
	char	   *customer_id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Datum	   *values;
	const char **event_types;
	int			n;
	PsEvent		last_event = {
		.event_id = text_to_cstring(PG_GETARG_TEXT_PP(4)),
		.source = text_to_cstring(PG_GETARG_TEXT_PP(5)),
		.timestamp = PG_GETARG_TIMESTAMPTZ(2)
	};

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(3), TEXTOID, -1, false, TYPALIGN_INT, &values, NULL, &n);
	event_types = palloc(Max(n, 1) * sizeof(char *));
	for (int i = 0; i < n; i++)
		event_types[i] = TextDatumGetCString(values[i]);
	PG_RETURN_TEXT_P(cstring_to_text(ps_notify_payload(customer_id, PG_GETARG_INT64(1), PG_GETARG_TIMESTAMPTZ(2), &last_event,
													   event_types, n)));
}

PG_FUNCTION_INFO_V1(ps_try_id_filter);
Datum
ps_try_id_filter(PG_FUNCTION_ARGS)
{
	ps_id_filter_try(PG_GETARG_INT64(0));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_filtered_ids);
Datum
ps_filtered_ids(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(ps_id_filter_ids());
}

#ifdef PS_HIREDIS
/* Lets the connection work until everything is answered, or raises why it is not. */
static void
finish_redis(PsRedis *redis)
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
						  text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_GETARG_INT32(2), "test", NIL);
	ps_redis_send(redis, items, n[0]);
	finish_redis(redis);
	ps_redis_close(redis);
	for (int i = 0; i < n[0]; i++)
		results[i] = CStringGetTextDatum(words[items[i].result]);
	PG_RETURN_ARRAYTYPE_P(construct_array(results, n[0], TEXTOID, -1, false, TYPALIGN_INT));
}
#endif

PG_FUNCTION_INFO_V1(ps_take_segments);
Datum
ps_take_segments(PG_FUNCTION_ARGS)
{
	dsm_segment *segment;
	int			taken = 0;

	while ((segment = dsm_create(1, DSM_CREATE_NULL_IF_MAXSEGMENTS)) != NULL)
	{
		dsm_pin_mapping(segment);
		taken++;
	}
	PG_RETURN_INT32(taken);
}

PG_FUNCTION_INFO_V1(ps_sweep_segments);
Datum
ps_sweep_segments(PG_FUNCTION_ARGS)
{
	int			visited;

	SPI_connect();
	visited = ps_live_sweep(PG_GETARG_INT32(0), true);
	SPI_finish();
	PG_RETURN_INT32(visited);
}
