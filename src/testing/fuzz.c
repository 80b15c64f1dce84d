/*
 * fuzz.c
 *	  Makes damaged events for tests of the decoder, and checks its answers. For
 *	  decode_fuzz() and, under a sanitizer, for test/tools/fuzz_event.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "testing/fuzz.h"

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

static const char *const fuzz_envelopes[] = {
	"{\"specversion\":\"1.0\",\"id\":\"e-1\",\"subject\":\"c-1\",\"type\":\"transaction.completed\",\"source\":\"/core\","
	"\"time\":\"2025-06-01T12:30:45.123456+02:00\",\"data\":{\"amount\":12.5,\"meta\":{\"id\":7,\"who\":\"c-2\"},\"tags\":[1,{}]}}",
	"{\"data\":{\"meta\":{\"id\":[1],\"who\":null}},\"data\":{\"meta\":{\"who\":\"c-3\",\"id\":\"x\"},\"odd key\":{\"t\":\"y\"}},"
	"\"specversion\":\"1.1\",\"id\":1e2,\"type\":\"x\",\"time\":1748781045123.5}",
	" {\"amount\":1,\"meta\":{\"who\":\"k\"},\"odd key\":{\"t\":0}} ",
};

static const char *const fuzz_changes[] = {
	"{\"before\":null,\"after\":{\"id\":7,\"who\":\"c-1\",\"note\":\"__debezium_unavailable_value\",\"tags\":[1,{}]},\"source\":{\"connector\":\"postgresql\","
	"\"name\":\"bank\",\"ts_ms\":1748781045123,\"db\":\"crm\",\"schema\":\"public\",\"table\":\"customers\",\"txId\":555,\"lsn\":24023128,\"xmin\":null},"
	"\"op\":\"c\",\"ts_ms\":1748781045200,\"transaction\":null}",
	"{\"schema\":{\"type\":\"struct\",\"fields\":[{\"field\":\"op\"}]},\"payload\":{\"op\":\"d\",\"before\":{\"id\":7,\"who\":\"c-2\"},\"after\":null,"
	"\"source\":{\"name\":\"shop\",\"db\":\"inventory\",\"table\":\"customers\",\"file\":\"mysql-bin.000003\",\"pos\":484,\"row\":0,\"ts_ms\":1748781045000}}}",
	"{\"op\":\"r\",\"after\":\"{\\\"id\\\":7,\\\"who\\\":\\\"c-3\\\"}\",\"source\":{\"collection\":\"customers\",\"db\":\"crm\",\"ord\":1,\"ts_ms\":1748781045000},"
	"\"row\":{\"who\":\"x\"},\"change\":1,\"position\":[]}",
};

/* left_out: how many of 16 messages with headers do not have this one */
static const struct
{
	const char *name;
	const char *value;
	int			deferred;
}			fuzz_headers[] = {
	{"ce_specversion", "1.0", 1},
	{"ce_id", "e-2", 1},
	{"ce_type", "session.started", 1},
	{"ce_subject", "c-2", 8},
	{"ce_source", "/core", 8},
	{"ce_time", "2025-06-01T12:30:45Z", 8},
	{"content-type", "application/cloudevents+json; charset=UTF-8", 14},
	{"Content-Type", "application/json", 8},
	{"content-type", "application/cloudevents-batch+json", 15},
	{"x", "1748781045123", 4},
};

static const PsDefaultSource fuzz_sources[] = {
	{PS_EVENT_ID, "$.id"},
	{PS_EVENT_ID, "$.data.meta.id"},
	{PS_EVENT_ID, "header:ce_id"},
	{PS_CUSTOMER_ID, "$.data.meta.who"},
	{PS_CUSTOMER_ID, "key"},
	{PS_EVENT_TYPE, "$.type"},
	{PS_EVENT_TYPE, "$.data.\"odd key\".t"},
	{PS_EVENT_TYPE, "constant:x"},
	{PS_TIMESTAMP, "$.time"},
	{PS_TIMESTAMP, "header:x"},
	{PS_TIMESTAMP, "kafka_timestamp"},
	{PS_PAYLOAD, "$.data.meta"},
	{PS_PAYLOAD, "$.data"},
	{PS_PAYLOAD, "$"},
	{PS_SOURCE, "header:ce_source"},
	{PS_SCHEMA_VERSION, "constant:1"},
};

static const char *const fuzz_tokens[] = {
	"\"", "\\", "{", "}", "[", "]", ":", ",", "null", "true", "false", "0", "-", "1e400", "1E-309", "NaN",
	"\\u0000", "\\ud800", "\\udc00", "\xff", "\xc3", "\xed\xa0\x80", "\xf0\x9f\x98\x80", "\t", "9999999999999999",
	"\"eventId\":", "\"customerId\":[],", "\"timestamp\":0,", "\"payload\":{\"a\":1,\"a\":2},", "\"payload\":[", "{\"a\":",
	"60", "24:00", "0000-00-00", "9999-12-31T23:59:60",
};

int
ps_fuzz_int(pg_prng_state *prng, int max)
{
	return (int) pg_prng_uint64_range(prng, 0, max);
}

/* Replaces a random range of at most max_cut bytes with an insert; returns the new length. */
static int
fuzz_splice(pg_prng_state *prng, char *bytes, int len, int max_cut, const char *insert, int insert_len)
{
	int			at = ps_fuzz_int(prng, len);
	int			cut = ps_fuzz_int(prng, Min(max_cut, len - at));

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
	char		byte = (char) ps_fuzz_int(prng, 255);
	const char *token = fuzz_tokens[ps_fuzz_int(prng, lengthof(fuzz_tokens) - 1)];
	int			copied = ps_fuzz_int(prng, Min((int) sizeof(copy), len));

	switch (ps_fuzz_int(prng, 5))
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
			memcpy(copy, bytes + ps_fuzz_int(prng, len - copied), copied);
			return fuzz_splice(prng, bytes, len, 0, copy, copied);
		default:
			return ps_fuzz_int(prng, 9) == 0 ? ps_fuzz_int(prng, len) : len;
	}
}

/* Fills a buffer with a damaged event of the list, or with random bytes; returns the length. */
static int
fuzz_value(pg_prng_state *prng, const char *const *events, int nevents, char *bytes)
{
	const char *event = events[ps_fuzz_int(prng, nevents - 1)];
	int			len = strlen(event);

	if (ps_fuzz_int(prng, 9) == 0)
	{
		len = ps_fuzz_int(prng, 200);
		for (int i = 0; i < len; i++)
			bytes[i] = (char) ps_fuzz_int(prng, 255);
		return len;
	}
	memcpy(bytes, event, len);
	for (int i = ps_fuzz_int(prng, FUZZ_MAX_MUTATIONS); i > 0; i--)
		len = fuzz_mutate(prng, bytes, len);
	return len;
}

/* A copy of text, sometimes damaged. It has no byte behind its end, so that a sanitizer sees each read beyond. */
static const char *
fuzz_text(pg_prng_state *prng, const char *text, int *len)
{
	char		bytes[PS_FUZZ_MAX_BYTES];

	*len = strlen(text);
	memcpy(bytes, text, *len);
	if (ps_fuzz_int(prng, 19) == 0)
		*len = fuzz_mutate(prng, bytes, *len);
	return memcpy(palloc(Max(*len, 1)), bytes, *len);
}

void
ps_fuzz_fill(pg_prng_state *prng, const PsFormatMap *format_map, char *bytes, PsMessage *message)
{
	PsHeader   *headers;

	memset(message, 0, sizeof(PsMessage));
	message->value = bytes;
	message->kafka_timestamp = DT_NOBEGIN;
	if (format_map == NULL)
	{
		message->value_len = fuzz_value(prng, fuzz_events, lengthof(fuzz_events), bytes);
		return;
	}
	if (format_map->format->option != NULL)
		message->value_len = fuzz_value(prng, fuzz_changes, lengthof(fuzz_changes), bytes);
	else
		message->value_len = fuzz_value(prng, fuzz_envelopes, lengthof(fuzz_envelopes), bytes);
	if (ps_fuzz_int(prng, 1) == 0)
		message->kafka_timestamp = 0;
	if (ps_fuzz_int(prng, 2) > 0)
		message->key = fuzz_text(prng, "c-1", &message->key_len);
	headers = palloc0(lengthof(fuzz_headers) * sizeof(PsHeader));
	message->headers = headers;
	if (ps_fuzz_int(prng, 1) == 0)
		return;
	for (int i = 0; i < lengthof(fuzz_headers); i++)
	{
		PsHeader   *header = &headers[message->nheaders];

		if (ps_fuzz_int(prng, 15) < fuzz_headers[i].deferred)
			continue;
		header->name = fuzz_headers[i].name;
		if (ps_fuzz_int(prng, 49) > 0)
			header->value = fuzz_text(prng, fuzz_headers[i].value, &header->value_len);
		message->nheaders++;
	}
}

PsFormatMap *
ps_fuzz_envelope(pg_prng_state *prng)
{
	static const char *const formats[] = {"cloudevents", "custom", "debezium"};
	int			format = ps_fuzz_int(prng, lengthof(formats));
	PsFormatMap *format_map;

	if (format == 0)
		return NULL;
	format_map = ps_format_map_make(ps_format_find(formats[format - 1]));
	if (format == 3)
	{
		(void) ps_format_map_add(format_map, PS_CUSTOMER_ID, "$.row.who");
		(void) ps_format_map_set(format_map, ps_fuzz_int(prng, 1) == 0 ? "event" : "tombstone");
	}
	for (int i = 0; i < lengthof(fuzz_sources) && format == 2; i++)
		if (ps_fuzz_int(prng, 3) > 0)
			(void) ps_format_map_add(format_map, fuzz_sources[i].member, fuzz_sources[i].source);
	ps_format_map_add_defaults(format_map);
	return format_map;
}

/* Whether a slice is valid UTF-8 and, unless it is raw JSON, a C string of that length. */
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
	if (event->is_ignored)
		return NULL;
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
