/*
 * events.c
 *	  decode_event(): what a stream makes of a message value; and decode_fuzz(),
 *	  which tests the decoder with damaged events.
 */
#include "postgres.h"

#include "api/caller.h"
#include "core/fuzz.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(ps_decode_event);
PG_FUNCTION_INFO_V1(ps_decode_fuzz);

/* Columns of decode_event(), in the order of its declaration. */
enum
{
	EVENT_ID,
	CUSTOMER_ID,
	EVENT_TYPE,
	EVENT_TIMESTAMP,
	SOURCE,
	SCHEMA_VERSION,
	PAYLOAD,
	ERRORS,
	KIND,
	NCOLUMNS
};

static Datum
payload_jsonb(const PsEvent *event)
{
	char	   *json = pnstrdup(event->payload, event->payload_len);

	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
}

static void
set_text(Datum *values, bool *nulls, int column, const char *value)
{
	nulls[column] = value == NULL;
	if (value != NULL)
		values[column] = CStringGetTextDatum(value);
}

static void
set_event(Datum *values, bool *nulls, const PsEvent *event)
{
	set_text(values, nulls, EVENT_ID, event->event_id);
	set_text(values, nulls, CUSTOMER_ID, event->customer_id);
	set_text(values, nulls, EVENT_TYPE, event->event_type);
	set_text(values, nulls, SOURCE, event->source);
	values[EVENT_TIMESTAMP] = TimestampTzGetDatum(event->timestamp);
	nulls[EVENT_TIMESTAMP] = false;
	values[SCHEMA_VERSION] = Int32GetDatum(event->schema_version);
	nulls[SCHEMA_VERSION] = false;
	if (event->payload != NULL)
	{
		values[PAYLOAD] = payload_jsonb(event);
		nulls[PAYLOAD] = false;
	}
}

static void
set_reject(Datum *values, bool *nulls, const PsReject *reject)
{
	values[ERRORS] = ps_reject_errors(reject);
	nulls[ERRORS] = false;
	set_text(values, nulls, KIND, reject->kind);
}

Datum
ps_decode_event(PG_FUNCTION_ARGS)
{
	bytea	   *value = PG_GETARG_BYTEA_PP(0);
	PsDecodeSettings settings = {
		.now = PG_GETARG_TIMESTAMPTZ(1),
		.max_clock_skew_us = (int64) ps_max_clock_skew_ms * 1000,
		.max_event_bytes = ps_max_event_bytes
	};
	PsEvent		event;
	PsReject   *reject;
	Datum		values[NCOLUMNS] = {0};
	bool		nulls[NCOLUMNS];
	ReturnSetInfo *result;

	InitMaterializedSRF(fcinfo, 0);
	result = (ReturnSetInfo *) fcinfo->resultinfo;
	memset(nulls, true, sizeof(nulls));
	reject = ps_event_decode(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), &settings, &event);
	if (reject != NULL)
		set_reject(values, nulls, reject);
	else
		set_event(values, nulls, &event);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	return (Datum) 0;
}

/* Fuzzing: a fixed moment, so that a seed gives the same events for ever. */
#define FUZZ_NOW INT64CONST(820540800000000)	/* 2026-01-01 */

/* What does not hold for the decoder's answer, NULL when all does. */
static const char *
fuzz_check(const PsReject *reject, const PsEvent *event, const PsDecodeSettings *settings)
{
	const char *wrong = reject != NULL ? ps_fuzz_check_reject(reject) : ps_fuzz_check_event(event, settings);

	if (wrong == NULL && reject == NULL && event->payload != NULL &&
		JB_ROOT_COUNT(DatumGetJsonbP(payload_jsonb(event))) != event->nfields)
		wrong = "payload";
	return wrong;
}

Datum
ps_decode_fuzz(PG_FUNCTION_ARGS)
{
	int32		iterations = PG_GETARG_INT32(1);
	PsDecodeSettings settings = {FUZZ_NOW, USECS_PER_HOUR, PS_FUZZ_MAX_BYTES};
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "profile_stream decode_fuzz",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	char		bytes[PS_FUZZ_MAX_BYTES];
	pg_prng_state prng;
	int64		valid = 0;

	pg_prng_seed(&prng, (uint64) PG_GETARG_INT32(0));
	for (int32 i = 0; i < iterations; i++)
	{
		PsEvent		event;
		PsReject   *reject = ps_event_decode(bytes, ps_fuzz_fill(&prng, bytes), &settings, &event);
		const char *wrong = fuzz_check(reject, &event, &settings);

		CHECK_FOR_INTERRUPTS();
		if (wrong != NULL)
			elog(ERROR, "decode_fuzz: %s does not hold", wrong);
		valid += reject == NULL;
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
	PG_RETURN_INT64(valid);
}
