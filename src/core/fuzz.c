/*
 * fuzz.c
 *	  Damaged events for tests of the decoder, and what must hold for its answer.
 *	  Called by decode_fuzz() and, under a sanitizer, by test/tools/fuzz_event.
 */
#include "postgres.h"

#include "core/fuzz.h"
#include "mb/pg_wchar.h"

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

	if (len - cut + insert_len > PS_FUZZ_MAX_BYTES)
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

int
ps_fuzz_fill(pg_prng_state *prng, char *bytes)
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

/* Whether a slice is UTF-8 and, unless it is raw JSON, a C string of that length. */
static bool
text_ok(const char *text, int len, bool raw)
{
	return (raw || strlen(text) == len) && pg_encoding_verifymbstr(PG_UTF8, text, len) == len;
}

static bool
id_ok(const char *text, int len)
{
	return len > 0 && len <= PS_MAX_ID_BYTES && text_ok(text, len, false);
}

const char *
ps_fuzz_check_event(const PsEvent *event, const PsDecodeSettings *settings)
{
	if (!id_ok(event->event_id, event->event_id_len))
		return "event_id";
	if (!id_ok(event->customer_id, event->customer_id_len))
		return "customer_id";
	if (!id_ok(event->event_type, event->event_type_len))
		return "event_type";
	if (event->timestamp > settings->now + settings->max_clock_skew_us)
		return "timestamp";
	if (event->source != NULL && !text_ok(event->source, strlen(event->source), false))
		return "source";
	for (int i = 0; i < event->nfields; i++)
	{
		const PsField *field = &event->fields[i];
		bool		raw = field->type == PS_JSON_OBJECT || field->type == PS_JSON_ARRAY;

		if (ps_event_field(event, field->name) != field)
			return "unique field";
		if (!text_ok(field->text, field->len, raw) || (raw && field->len < 2))
			return "field";
	}
	return NULL;
}

const char *
ps_fuzz_check_reject(const PsReject *reject)
{
	if (reject->nerrors <= 0)
		return "errors";
	if (strcmp(reject->kind, "malformed") != 0 && strcmp(reject->kind, "invalid") != 0)
		return "kind";
	for (int i = 0; i < reject->nerrors; i++)
	{
		int			len = strlen(reject->errors[i]);

		if (len == 0 || len > 512 || !text_ok(reject->errors[i], len, false))
			return "error";
	}
	return NULL;
}
