/*
 * fuzz_parsers.c
 *	  Gives damaged bytes to all parsers but the decoder: of times, paths, sources,
 *	  customer ids in any bytes, foreign text, marks of finished offsets, copies of
 *	  messages, and hashes. For parser_fuzz() and, under a sanitizer, for
 *	  test/tools/fuzz_event.
 */
#include "postgres.h"

#include "compat.h"
#include "core/json.h"
#include "core/keyed_hash.h"
#include "core/offset_set.h"
#include "core/redact.h"
#include "core/text.h"
#include "mb/pg_wchar.h"
#include "message.h"
#include "testing/fuzz.h"

#define MAX_BYTES 200

/* Pieces that have a meaning for at least one parser. */
static const char *const pieces[] = {
	"2025-06-01", "T12:30:45", ".123456789", "+02:00", "-0030", "Z", "24:00", "9999-12-31T23:59:60", "0001-01-01",
	"1748781045123", "1e5", "-0.5", "999999999999999999999", "$.a", ".\"odd \\\" key\"", ".b9", "$", "header:", "constant:x", "key", "kafka_timestamp", "kafka_position", ".row", "$.position",
	"c-1", "\\u0063-1", "\\ud83d\\ude00", "\\ud83d", "\\u00", "\\n", "\"customerId\" : ", "\"", "{", "}", ",", "\xff", "\xc3", "\xc3\xbc", "\xed\xa0\x80",
	"\xf0\x9f\x98\x80", "\xef\xbb\xbf", "\x01", "\x1b[31m", "|", "\\", "ERR ", "\r\n", " "
};

/* Pieces and random bytes. There is no byte behind their end, so that a sanitizer sees each read beyond. */
static char *
any_bytes(pg_prng_state *prng, int *len)
{
	char		bytes[MAX_BYTES];
	char	   *copy;

	*len = 0;
	for (int i = ps_fuzz_int(prng, 8); i > 0; i--)
	{
		const char *piece = pieces[ps_fuzz_int(prng, lengthof(pieces) - 1)];
		char		byte = (char) ps_fuzz_int(prng, 255);
		int			size = ps_fuzz_int(prng, 4) == 0 ? 1 : strlen(piece);

		if (*len + size > MAX_BYTES)
			break;
		memcpy(bytes + *len, size == 1 ? &byte : piece, size);
		*len += size;
	}
	copy = palloc(Max(*len, 1));
	return memcpy(copy, bytes, *len);
}

/* The same as valid text that ends with a zero. */
static char *
any_text(pg_prng_state *prng, int *len)
{
	char	   *bytes = any_bytes(prng, len);
	char	   *copy;

	*len = pg_encoding_verifymbstr(PG_UTF8, bytes, *len);
	copy = pnstrdup(bytes, *len);
	*len = strlen(copy);
	return copy;
}

static const char *
try_times(pg_prng_state *prng)
{
	int			len;
	char	   *text = any_text(prng, &len);
	TimestampTz at;

	if (ps_timestamp_from_iso(text, len, &at) && TIMESTAMP_NOT_FINITE(at))
		return "time";
	if (ps_timestamp_is_count(text, len))
		for (int unit = 0; unit < PS_TIME_UNITS; unit++)
			if (ps_timestamp_from_epoch(text, unit, &at) && !IS_VALID_TIMESTAMP(at))
				return "count";
	return NULL;
}

/* Adds random sources to a map, and reads a message by those that are valid. */
static const char *
try_sources(pg_prng_state *prng)
{
	static const char *const formats[] = {"cloudevents", "custom", "debezium"};
	PsFormatMap *format_map = ps_format_map_make(ps_format_find(formats[ps_fuzz_int(prng, lengthof(formats) - 1)]));
	PsDecodeSettings settings = {0, 0, PS_FUZZ_MAX_BYTES, format_map};
	char		bytes[PS_FUZZ_MAX_BYTES];
	PsMessage	message;
	PsMembers	members;
	PsPath		path;
	const char *parts[PS_MAX_JOINED];
	int			len;

	for (int i = ps_fuzz_int(prng, 12); i > 0; i--)
	{
		for (int p = 0; p < PS_MAX_JOINED; p++)
			parts[p] = any_text(prng, &len);
		(void) ps_path_parse(parts[0], &path);
		if (ps_fuzz_int(prng, 1) == 0)
			(void) ps_format_map_add(format_map, ps_fuzz_int(prng, PS_MEMBERS - 1), parts[0]);
		else
			(void) ps_format_map_add_join(format_map, ps_fuzz_int(prng, PS_MEMBERS - 1), parts, ps_fuzz_int(prng, PS_MAX_JOINED));
	}
	ps_format_map_add_defaults(format_map);
	ps_fuzz_fill(prng, format_map, bytes, &message);
	if (ps_members_read(&message, &settings, &members) == NULL && members.member[PS_EVENT_ID].type == PS_JSON_STRING &&
		strlen(members.member[PS_EVENT_ID].text) != members.member[PS_EVENT_ID].len)
		return "source";
	return NULL;
}

/* Joins two random lists of parts: the results may be equal only if the lists are. */
static const char *
try_join(pg_prng_state *prng)
{
	static const char *const sources[] = {"header:a", "header:b"};
	PsFormatMap *format_map = ps_format_map_make(ps_format_find("custom"));
	PsDecodeSettings settings = {0, 0, PS_FUZZ_MAX_BYTES, format_map};
	PsHeader	headers[2][2];
	PsMembers	members[2];
	bool		same = true;

	(void) ps_format_map_add_join(format_map, PS_EVENT_ID, sources, 2);
	for (int i = 0; i < 2; i++)
	{
		PsMessage	message = {.headers = headers[i],.nheaders = 2,.value = "{}",.value_len = 2};

		for (int h = 0; h < 2; h++)
		{
			/* few parts, so that the lists are often equal */
			static const char *const few[] = {"a", "|", "\\", "a|", "\\|", "|a", "\\\\"};

			headers[i][h].name = h == 0 ? "a" : "b";
			headers[i][h].value = few[ps_fuzz_int(prng, lengthof(few) - 1)];
			headers[i][h].value_len = strlen(headers[i][h].value);
		}
		(void) ps_members_read(&message, &settings, &members[i]);
	}
	for (int h = 0; h < 2; h++)
		same &= strcmp(headers[0][h].value, headers[1][h].value) == 0;
	return same == (strcmp(members[0].member[PS_EVENT_ID].text, members[1].member[PS_EVENT_ID].text) == 0) ? NULL : "join";
}

/* Checks that mentions lie within the bytes and do not overlap, and that a customer id is valid text. */
static const char *
try_mentions(pg_prng_state *prng)
{
	int			len;
	int			id_len;
	int			end = 0;
	char	   *bytes = any_bytes(prng, &len);
	char	   *id = any_text(prng, &id_len);
	char	   *customer;
	PsIdSearch	mention;

	ps_id_search_start(&mention, bytes, len, id, id_len);
	mention.in_strings = ps_fuzz_int(prng, 1) == 0;
	while (ps_id_search_next(&mention))
	{
		if (mention.start < end || mention.end <= mention.start || mention.end > len)
			return "mention";
		end = mention.end;
	}
	customer = ps_find_customer_id(bytes, len);
	if (customer != NULL && (customer[0] == '\0' || strlen(customer) > PS_MAX_ID_BYTES ||
							 pg_encoding_verifymbstr(PG_UTF8, customer, strlen(customer)) != strlen(customer)))
		return "customer";
	return NULL;
}

/* Checks that text of foreign bytes is valid and not too long, and that valid text stays unchanged. */
static const char *
try_text(pg_prng_state *prng)
{
	int			len;
	int			most = ps_fuzz_int(prng, 50);
	char	   *bytes = any_bytes(prng, &len);
	char	   *made = ps_text_of_bytes(bytes, len, most);
	int			made_len = strlen(made);

	if (made_len > Min(len, most) || pg_encoding_verifymbstr(PG_UTF8, made, made_len) != made_len)
		return "text";
	for (int i = 0; i < made_len; i++)
		if ((unsigned char) made[i] < ' ' && made[i] != '\n' && made[i] != '\t')
			return "visible text";
	if (strcmp(ps_text_of_bytes(made, made_len, made_len), made) != 0)
		return "text of text";
	return ps_keyed_hash(&ps_table_key, bytes, len) == ps_keyed_hash(&ps_table_key, memcpy(palloc(Max(len, 1)), bytes, len), len) ? NULL : "hash";
}

/* Restores marks from valid or random bytes, and checks that encoding and restoring them changes nothing. */
static const char *
try_offsets(pg_prng_state *prng)
{
	int64		next = ps_fuzz_int(prng, 1000);
	int			len = ps_fuzz_int(prng, 40);
	bytea	   *stored = palloc(VARHDRSZ + len);
	PsOffsetSet set;
	PsOffsetSet again;
	int64		candidate;

	SET_VARSIZE(stored, VARHDRSZ + len);
	for (int i = 0; i < len; i++)
		VARDATA(stored)[i] = ps_fuzz_int(prng, 1) == 0 ? (char) ps_fuzz_int(prng, 255) : 0;
	if (len >= 8)
	{
		VARDATA(stored)[6] = (char) (next >> 8);
		VARDATA(stored)[7] = (char) (next & ~7);
		memset(VARDATA(stored), 0, 6);
	}
	ps_offset_set_init(&set, next, stored, CurrentMemoryContext);
	for (int i = ps_fuzz_int(prng, 20); i > 0; i--)
	{
		int64		offset = set.read + ps_fuzz_int(prng, 5);

		if (!ps_offset_set_read(&set, offset) && ps_fuzz_int(prng, 1) == 0)
			ps_offset_set_mark(&set, offset, true);
	}
	candidate = ps_offset_set_candidate(&set);
	if (candidate < next)
		return "candidate";
	stored = ps_offset_set_encode(&set, candidate);
	ps_offset_set_init(&again, candidate, stored, CurrentMemoryContext);
	for (int64 offset = candidate; offset < candidate + 500; offset++)
		if (ps_offset_set_finished(&set, offset) != ps_offset_set_finished(&again, offset))
			return "stored marks";
	return NULL;
}

/* Checks that the copy of a message has the same content. */
static const char *
try_copy(pg_prng_state *prng)
{
	char		bytes[PS_FUZZ_MAX_BYTES];
	PsMessage	message;
	PsMessage	copy;

	ps_fuzz_fill(prng, ps_format_map_make(ps_format_find("custom")), bytes, &message);
	ps_message_copy(&copy, palloc(Max(ps_message_space(&message), 1)), &message);
	if (copy.value_len != message.value_len || memcmp(copy.value, message.value, message.value_len) != 0 || copy.nheaders != message.nheaders)
		return "copy";
	for (int i = 0; i < copy.nheaders; i++)
		if (strcmp(copy.headers[i].name, message.headers[i].name) != 0 || copy.headers[i].value_len != message.headers[i].value_len)
			return "copy of a header";
	return NULL;
}

const char *
ps_fuzz_parsers(pg_prng_state *prng)
{
	static const char *(*const tries[]) (pg_prng_state *) = {
		try_times, try_sources, try_join, try_mentions, try_text, try_offsets, try_copy
	};
	const char *wrong = NULL;

	for (int i = 0; i < lengthof(tries) && wrong == NULL; i++)
		wrong = tries[i] (prng);
	return wrong;
}
