/*
 * json_plain.c
 *	  Reads what most events are, JSON without escapes, faster than the parser does.
 *
 *	  The parser looks at a value byte by byte and hands out copies of its strings. Here
 *	  eight bytes of a string are looked at at once, and one copy of the value is made,
 *	  in which strings, numbers and names are terminated where they stand.
 */
#include "postgres.h"

#include "core/json_plain.h"
#include "core/plain_text.h"

#define MAX_BYTES 8192			/* a copy of all of a longer value may be much more than what is wanted of it */
#define MAX_DEPTH 16
#define SAFE_DIGITS 15			/* a number so long, without exponent, is in range */

/* What of an object is wanted. */
typedef enum Wanted
{
	WANT_NOTHING,
	WANT_MEMBERS,				/* those that the reader names */
	WANT_FIELDS					/* all, as the reader's fields */
} Wanted;

typedef struct Scan
{
	PsJsonReader *reader;
	const char *value;
	const char *end;
	const char *at;				/* the next byte */
	char	   *copy;
	int			depth;
	int			last;			/* the member that was found last: events have their members in the same order */
} Scan;

static bool scan_value(Scan *scan, PsField *field, Wanted below);

PsField *
ps_json_add_field(PsJsonReader *reader, const char *name)
{
	if (reader->fields == NULL)
		reader->fields = palloc((reader->fields_size = 4) * sizeof(PsField));
	else if (reader->nfields == reader->fields_size)
		reader->fields = repalloc_huge(reader->fields, (reader->fields_size *= 2) * sizeof(PsField));
	reader->fields[reader->nfields].name = name;
	return &reader->fields[reader->nfields++];
}

/* The next byte that is no space, which is not taken; 0: there is none. */
static char
json_plain_peek(Scan *scan)
{
	while (scan->at < scan->end && (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\t' || *scan->at == '\r'))
		scan->at++;
	return scan->at < scan->end ? *scan->at : '\0';
}

/* The same bytes in the copy, terminated. */
static const char *
json_plain_terminate(Scan *scan, const char *text, int len)
{
	char	   *copy = scan->copy + (text -scan->value);

	copy[len] = '\0';
	return copy;
}

static void
set_field(Scan *scan, PsField *field, PsJsonType type, const char *text, int len)
{
	if (field == NULL)
		return;
	field->type = type;
	field->text = json_plain_terminate(scan, text, len);
	field->len = len;
}

/* Takes a string; returns its bytes, or NULL. */
static const char *
scan_string(Scan *scan, int *len)
{
	const char *text = scan->at + 1;

	*len = ps_plain_len(text, scan->end - text);
	scan->at = text +*len;

	if (scan->at == scan->end || *scan->at != '"')
		return NULL;
	scan->at++;
	return text;
}

static const char *
skip_digits(const char *at, const char *end)
{
	while (at < end && *at >= '0' && *at <= '9')
		at++;
	return at;
}

/* Takes a number that is certainly in range. What follows it is looked at by the caller, as after any value. */
static bool
scan_number(Scan *scan, PsField *field)
{
	const char *begin = scan->at;
	const char *whole = begin + (*begin == '-');
	const char *at = skip_digits(whole, scan->end);

	if (at == whole || (*whole == '0' && at > whole + 1))
		return false;
	if (at < scan->end && *at == '.')
	{
		const char *fraction = at + 1;

		at = skip_digits(fraction, scan->end);
		if (at == fraction)
			return false;
	}
	if (at - begin > SAFE_DIGITS)
		return false;
	scan->at = at;
	set_field(scan, field, PS_JSON_NUMBER, begin, at - begin);
	return true;
}

/* Takes a word if it is the next one. */
static bool
scan_word(Scan *scan, PsField *field, PsJsonType type, const char *word)
{
	int			len = strlen(word);

	if (scan->end - scan->at < len || memcmp(scan->at, word, len) != 0)
		return false;
	set_field(scan, field, type, scan->at, len);
	scan->at += len;
	return true;
}

/* The reader's member of that name, or NULL. */
static PsField *
json_plain_find(Scan *scan, const char *name, int len)
{
	PsJsonReader *reader = scan->reader;

	for (int tried = 0; tried < reader->nmembers; tried++)
	{
		const char *wanted;

		scan->last = scan->last + 1 >= reader->nmembers ? 0 : scan->last + 1;
		wanted = reader->members[scan->last].name;
		if (strncmp(wanted, name, len) != 0 || wanted[len] != '\0')
			continue;
		if (scan->last == reader->expanded)
			reader->nfields = 0;	/* a repeated member replaces the earlier one */
		return &reader->members[scan->last];
	}
	return NULL;
}

/* Takes the name of a member or field, the colon and the value. */
static bool
scan_member(Scan *scan, Wanted wanted)
{
	PsField    *field = NULL;
	Wanted		below = WANT_NOTHING;
	const char *name;
	int			len;

	if (json_plain_peek(scan) != '"')
		return false;
	name = scan_string(scan, &len);
	if (name == NULL || json_plain_peek(scan) != ':')
		return false;
	scan->at++;
	if (wanted == WANT_FIELDS)
		field = ps_json_add_field(scan->reader, json_plain_terminate(scan, name, len));
	else if (wanted == WANT_MEMBERS)
	{
		field = json_plain_find(scan, name, len);
		if (field != NULL && field - scan->reader->members == scan->reader->expanded)
			below = WANT_FIELDS;
	}
	return scan_value(scan, field, below);
}

/* Takes an object, or an array, of which nothing is wanted. */
static bool
scan_container(Scan *scan, char close, Wanted wanted)
{
	if (++scan->depth > MAX_DEPTH)
		return false;
	scan->at++;
	if (json_plain_peek(scan) != close)
	{
		for (;;)
		{
			if (!(close == '}' ? scan_member(scan, wanted) : scan_value(scan, NULL, WANT_NOTHING)))
				return false;
			if (json_plain_peek(scan) != ',')
				break;
			scan->at++;
		}
		if (json_plain_peek(scan) != close)
			return false;
	}
	scan->at++;
	scan->depth--;
	return true;
}

/* Takes a value: into the field unless that is NULL, and of an object what is wanted below. */
static bool
scan_value(Scan *scan, PsField *field, Wanted below)
{
	char		first = json_plain_peek(scan);
	const char *begin = scan->at;
	int			len;

	switch (first)
	{
		case '"':
			begin = scan_string(scan, &len);
			if (begin == NULL)
				return false;
			set_field(scan, field, PS_JSON_STRING, begin, len);
			return true;
		case 't':
			return scan_word(scan, field, PS_JSON_BOOLEAN, "true");
		case 'f':
			return scan_word(scan, field, PS_JSON_BOOLEAN, "false");
		case 'n':
			return scan_word(scan, field, PS_JSON_NULL, "null");
		case '{':
		case '[':
			if (!scan_container(scan, first == '{' ? '}' : ']', below))
				return false;
			if (field != NULL)
			{
				field->type = first == '{' ? PS_JSON_OBJECT : PS_JSON_ARRAY;
				field->text = begin;
				field->len = scan->at - begin;
			}
			return true;
		default:
			return (first == '-' || (first >= '0' && first <= '9')) && scan_number(scan, field);
	}
}

bool
ps_json_read_plain(const char *value, int len, PsJsonReader *reader)
{
	Scan		scan = {reader, value, value + len, value, NULL, 0, -1};

	if (len > MAX_BYTES || json_plain_peek(&scan) != '{')
		return false;
	scan.copy = palloc(len + 1);
	memcpy(scan.copy, value, len);
	return scan_container(&scan, '}', reader->expanded == PS_JSON_ROOT ? WANT_FIELDS : WANT_MEMBERS) &&
		json_plain_peek(&scan) == '\0' && scan.at == scan.end;
}
