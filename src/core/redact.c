/*
 * redact.c
 *	  Finds customer ids in bytes: for the erasure of a customer, and to tell whose
 *	  message it is that cannot be decoded.
 */
#include "postgres.h"

#include "core/redact.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "message.h"

#define MAX_UNIT 4				/* longest character, in bytes */

static bool
is_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The value of four hexadecimal digits; -1 when they are not. */
static int
read_hex(const char *text, int len)
{
	int			value = 0;

	if (len < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		char		c = text[i];

		if (!is_word(c) || (c > 'F' && c < 'a') || c > 'f')
			return -1;
		value = value * 16 + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
	}
	return value;
}

/* Reads an escape of JSON into bytes; returns its length, 0 when it is not an escape. */
static int
read_escape(const char *text, int len, char *unit, int *unit_len)
{
	static const char letters[] = "\"\\/bfnrt";
	static const char meant[] = "\"\\/\b\f\n\r\t";
	const char *letter;
	int			code;
	int			low = -1;

	if (len < 2 || text[0] != '\\' || text[1] == '\0')
		return 0;
	if ((letter = strchr(letters, text[1])) != NULL)
	{
		unit[0] = meant[letter - letters];
		*unit_len = 1;
		return 2;
	}
	if (text[1] != 'u' || (code = read_hex(text +2, len - 2)) <= 0)
		return 0;
	if (code >= 0xD800 && code <= 0xDBFF && len >= 12 && text[6] == '\\' && text[7] == 'u')
		low = read_hex(text +8, len - 8);
	if (low >= 0xDC00 && low <= 0xDFFF)
		code = 0x10000 + ((code & 0x3FF) << 10) + (low & 0x3FF);
	unicode_to_utf8(code, (unsigned char *) unit);
	*unit_len = pg_utf_mblen((unsigned char *) unit);
	return code >= 0x10000 ? 12 : 6;
}

/* Matches the id, plain or with escapes, at a position; returns where it ends, or -1. */
static int
redact_match(const PsIdSearch *mention, int at)
{
	int			matched = 0;

	if (mention->len - at >= mention->id_len && memcmp(mention->text +at, mention->id, mention->id_len) == 0)
		return at + mention->id_len;
	while (matched < mention->id_len)
	{
		char		unit[MAX_UNIT];
		int			unit_len;
		int			taken = read_escape(mention->text +at, mention->len - at, unit, &unit_len);

		if (taken == 0)
		{
			if (at >= mention->len)
				return -1;
			unit[0] = mention->text[at];
			unit_len = taken = 1;
		}
		if (unit_len > mention->id_len - matched || memcmp(unit, mention->id + matched, unit_len) != 0)
			return -1;
		matched += unit_len;
		at += taken;
	}
	return at;
}

/* Whether a word begins at a position. A letter before it may be the end of an escape such as \n, which is no letter. */
static bool
begins_word(const PsIdSearch *mention, int at)
{
	const char *before = mention->text +at;

	if (!mention->whole || at == 0 || !is_word(before[-1]) || !is_word(mention->id[0]))
		return true;
	return (at >= 2 && before[-2] == '\\') || (at >= 6 && before[-6] == '\\' && before[-5] == 'u');
}

static bool
ends_word(const PsIdSearch *mention, int end)
{
	return !mention->whole || end >= mention->len || !is_word(mention->text[end]) ||
		!is_word(mention->id[mention->id_len - 1]);
}

/* Whether bytes are text without control characters, as somebody could type it. */
static bool
is_text(const char *text, int len)
{
	for (int i = 0; i < len; i++)
		if ((unsigned char) text[i] < ' ' && !is_space(text[i]))
			return false;
	return pg_encoding_verifymbstr(PG_UTF8, text, len) == len;
}

void
ps_id_search_start(PsIdSearch *mention, const char *text, int len, const char *id, int id_len)
{
	memset(mention, 0, sizeof(PsIdSearch));
	mention->text = text;

	mention->len = len;
	mention->id = id;
	mention->id_len = id_len;
	mention->whole = is_text(text, len);
}

bool
ps_id_search_next(PsIdSearch *mention)
{
	while (mention->id_len > 0 && mention->at < mention->len)
	{
		int			at = mention->at;
		char		c = mention->text[at];
		int			end = -1;

		if ((c == mention->id[0] || c == '\\') && begins_word(mention, at) &&
			(!mention->in_strings || (mention->quoted && !mention->escaped)))
			end = redact_match(mention, at);
		if (end >= 0 && ends_word(mention, end))
		{
			mention->start = at;
			mention->end = mention->at = end;
			mention->escaped = false;
			return true;
		}
		if (mention->escaped)
			mention->escaped = false;
		else if (c == '\\')
			mention->escaped = true;
		else if (c == '"')
			mention->quoted = !mention->quoted;
		mention->at++;
	}
	return false;
}

/* Reads an id: the string behind a quote, or a number; NULL when it cannot be one. */
static char *
read_id(const char *text, int len, bool quoted)
{
	StringInfoData id;
	int			at = 0;

	initStringInfo(&id);
	while (at < len && id.len <= PS_MAX_ID_BYTES && (quoted ? text[at] != '"' : is_word(text[at]) || strchr("+-.", text[at])))
	{
		char		unit[MAX_UNIT];
		int			unit_len;
		int			taken = read_escape(text +at, len - at, unit, &unit_len);

		appendBinaryStringInfo(&id, taken > 0 ? unit : text +at, taken > 0 ? unit_len : 1);
		at += Max(taken, 1);
	}
	if (id.len == 0 || id.len > PS_MAX_ID_BYTES || strlen(id.data) != id.len ||
		pg_encoding_verifymbstr(PG_UTF8, id.data, id.len) != id.len)
		return NULL;
	return id.data;
}

char *
ps_find_customer_id(const char *value, int len)
{
	static const char name[] = "\"customerId\"";
	int			name_len = strlen(name);

	for (int at = 0; at + name_len < len; at++)
	{
		int			next = at + name_len;

		if (value[at] != '"' || memcmp(value + at, name, name_len) != 0)
			continue;
		while (next < len && is_space(value[next]))
			next++;
		if (next == len || value[next++] != ':')
			continue;
		while (next < len && is_space(value[next]))
			next++;
		if (next < len && value[next] == '"')
			return read_id(value + next + 1, len - next - 1, true);
		if (next < len && (value[next] == '-' || (value[next] >= '0' && value[next] <= '9')))
			return read_id(value + next, len - next, false);
	}
	return NULL;
}
