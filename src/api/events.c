/*
 * events.c
 *	  decode_event(): what a stream makes of a message value; and decode_fuzz(),
 *	  which tests the decoder with damaged events.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "core/event.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
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
	Datum	   *errors = palloc(reject->nerrors * sizeof(Datum));

	for (int i = 0; i < reject->nerrors; i++)
		errors[i] = CStringGetTextDatum(reject->errors[i]);
	values[ERRORS] = PointerGetDatum(construct_array(errors, reject->nerrors, TEXTOID,
													 -1, false, TYPALIGN_INT));
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

/*
 * Fuzzing: what is fed to the decoder, and what must hold for its answer.
 */

#define FUZZ_NOW INT64CONST(820540800000000)	/* 2026-01-01 */
#define FUZZ_SKEW USECS_PER_HOUR
#define FUZZ_MAX_BYTES 2048
#define FUZZ_MAX_MUTATIONS 4

static const char *const fuzz_events[] = {
	"{\"eventId\":\"e-1\",\"customerId\":\"c-1\",\"eventType\":\"transaction.completed\","
	"\"timestamp\":\"2025-06-01T12:30:45.123456+02:00\",\"source\":\"core\",\"schemaVersion\":1,"
	"\"payload\":{\"amount\":12.5,\"currency\":\"EUR\",\"tags\":[1,2,{\"a\":null}],\"x\":{\"y\":[]}}}",
	"{\"eventId\":17,\"customerId\":42,\"eventType\":\"session.started\",\"timestamp\":1748781045123.5,"
	"\"payload\":{\"channel\":\"\\u00fcber\\ud83d\\ude00\",\"ok\":true,\"n\":-1.5e-7}}",
	" { \"payload\" : null , \"timestamp\" : \"2024-02-29\" , \"eventType\" : \"x\" ,\n"
	"\"customerId\" : \"k\xc3\xb6ln\" , \"eventId\" : \"a\\\"b\\\\c\" , \"schemaVersion\" : \"1\" } ",
};

static const char *const fuzz_tokens[] = {
	"\"", "\\", "{", "}", "[", "]", ":", ",", "null", "true", "false", "0", "-", "1e400", "1E-309", "NaN",
	"\\u0000", "\\ud800", "\\udc00", "\xff", "\xc3", "\xed\xa0\x80", "\xf0\x9f\x98\x80", "\t", "9999999999999999",
	"\"eventId\":", "\"customerId\":[],", "\"timestamp\":0,", "\"payload\":{\"a\":1,\"a\":2},", "\"payload\":[", "{\"a\":",
	"60", "24:00", "0000-00-00", "9999-12-31T23:59:60",
};

/* Any int from 0 to max. */
static int
fuzz_int(pg_prng_state *prng, int max)
{
	return (int) pg_prng_uint64_range(prng, 0, max);
}

/* Replaces a random range of at most max_cut bytes by an insert; returns the new length. */
static int
fuzz_splice(pg_prng_state *prng, char *bytes, int len, int max_cut, const char *insert, int insert_len)
{
	int			at = fuzz_int(prng, len);
	int			cut = fuzz_int(prng, Min(max_cut, len - at));

	if (len - cut + insert_len > FUZZ_MAX_BYTES)
		return len;
	memmove(bytes + at + insert_len, bytes + at + cut, len - at - cut);
	memcpy(bytes + at, insert, insert_len);
	return len - cut + insert_len;
}

/* Damages the bytes once. */
static int
fuzz_mutate(pg_prng_state *prng, char *bytes, int len)
{
	char		copy[64];
	char		byte = (char) fuzz_int(prng, 255);
	const char *token = fuzz_tokens[fuzz_int(prng, lengthof(fuzz_tokens) - 1)];
	int			copied = fuzz_int(prng, Min((int) sizeof(copy), len));

	switch (fuzz_int(prng, 5))
	{
		case 0:
			return fuzz_splice(prng, bytes, len, 1, &byte, 1);
		case 1:
			return fuzz_splice(prng, bytes, len, 0, token, strlen(token));
		case 2:
			return fuzz_splice(prng, bytes, len, 8, token, strlen(token));
		case 3:
			return fuzz_splice(prng, bytes, len, 30, "", 0);
		case 4:
			memcpy(copy, bytes + fuzz_int(prng, len - copied), copied);
			return fuzz_splice(prng, bytes, len, 0, copy, copied);
		default:
			return fuzz_int(prng, 9) == 0 ? fuzz_int(prng, len) : len;
	}
}

/* Fills the buffer with a damaged event or with random bytes. */
static int
fuzz_fill(pg_prng_state *prng, char *bytes)
{
	const char *event = fuzz_events[fuzz_int(prng, lengthof(fuzz_events) - 1)];
	int			len = strlen(event);

	if (fuzz_int(prng, 9) == 0)
	{
		len = fuzz_int(prng, 200);
		for (int i = 0; i < len; i++)
			bytes[i] = (char) fuzz_int(prng, 255);
		return len;
	}
	memcpy(bytes, event, len);
	for (int i = fuzz_int(prng, FUZZ_MAX_MUTATIONS); i > 0; i--)
		len = fuzz_mutate(prng, bytes, len);
	return len;
}

static void
fuzz_check(bool holds, const char *what)
{
	if (!holds)
		elog(ERROR, "decode_fuzz: %s does not hold", what);
}

/* Whether a slice is UTF-8 and, unless it is raw JSON, a C string of that length. */
static bool
fuzz_text_ok(const char *text, int len, bool raw)
{
	return (raw || strlen(text) == len) && pg_encoding_verifymbstr(PG_UTF8, text, len) == len;
}

static void
fuzz_check_event(const PsEvent *event)
{
	fuzz_check(event->event_id_len > 0 && event->event_id_len <= PS_MAX_ID_BYTES &&
			   fuzz_text_ok(event->event_id, event->event_id_len, false), "event_id");
	fuzz_check(event->customer_id_len > 0 && event->customer_id_len <= PS_MAX_ID_BYTES &&
			   fuzz_text_ok(event->customer_id, event->customer_id_len, false), "customer_id");
	fuzz_check(event->event_type_len > 0 && event->event_type_len <= PS_MAX_ID_BYTES &&
			   fuzz_text_ok(event->event_type, event->event_type_len, false), "event_type");
	fuzz_check(event->timestamp <= FUZZ_NOW + FUZZ_SKEW, "timestamp");
	fuzz_check(event->source == NULL || fuzz_text_ok(event->source, strlen(event->source), false), "source");
	for (int i = 0; i < event->nfields; i++)
	{
		const PsField *field = &event->fields[i];
		bool		raw = field->type == PS_JSON_OBJECT || field->type == PS_JSON_ARRAY;

		fuzz_check(ps_event_field(event, field->name) == field, "unique field");
		fuzz_check(fuzz_text_ok(field->text, field->len, raw), "field");
		fuzz_check(!raw || field->len >= 2, "raw field");
	}
	if (event->payload != NULL)
		fuzz_check(JB_ROOT_COUNT(DatumGetJsonbP(payload_jsonb(event))) == event->nfields, "payload");
}

static void
fuzz_check_reject(const PsReject *reject)
{
	fuzz_check(reject->nerrors > 0, "errors");
	fuzz_check(strcmp(reject->kind, "malformed") == 0 || strcmp(reject->kind, "invalid") == 0, "kind");
	for (int i = 0; i < reject->nerrors; i++)
	{
		int			len = strlen(reject->errors[i]);

		fuzz_check(len > 0 && len <= 512 && fuzz_text_ok(reject->errors[i], len, false), "error");
	}
}

Datum
ps_decode_fuzz(PG_FUNCTION_ARGS)
{
	int32		iterations = PG_GETARG_INT32(1);
	PsDecodeSettings settings = {FUZZ_NOW, FUZZ_SKEW, FUZZ_MAX_BYTES};
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "profile_stream decode_fuzz",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	char		bytes[FUZZ_MAX_BYTES];
	pg_prng_state prng;
	int64		valid = 0;

	pg_prng_seed(&prng, (uint64) PG_GETARG_INT32(0));
	for (int32 i = 0; i < iterations; i++)
	{
		int			len = fuzz_fill(&prng, bytes);
		PsEvent		event;
		PsReject   *reject;

		CHECK_FOR_INTERRUPTS();
		/* a copy of exactly that size, so that valgrind sees a read past its end */
		reject = ps_event_decode(memcpy(palloc(len), bytes, len), len, &settings, &event);
		if (reject != NULL)
			fuzz_check_reject(reject);
		else
		{
			fuzz_check_event(&event);
			valid++;
		}
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
	PG_RETURN_INT64(valid);
}
