/*
 * json.c
 *	  Reads some members of a JSON object. No bytes make it raise an ERROR.
 *
 *	  PostgreSQL's pg_parse_json() does the work. Two things would make it raise an
 *	  ERROR, so that they are checked before: bytes that are not UTF-8, and deep
 *	  nesting, which could exhaust the stack. Strings and numbers are copies; objects
 *	  and arrays are slices of the value. The parser makes copies of all strings,
 *	  letter by letter, when it is to resolve escapes. Most values have none: then it
 *	  makes none, and the strings that are wanted are copied here, into one piece of memory.
 */
#include "postgres.h"

#include "compat.h"
#include "core/json.h"
#include "mb/pg_wchar.h"

#define FEW_FIELDS 16
#define EXPECTED_NAMES 16
#define MAX_ROOM 8192			/* copies of the strings of a longer value have their own memory: it may have few that
								 * are wanted */

const char	ps_json_not_object[] = "the value is not an object";

/* State of the parser. Depth 1 is inside of the root, 2 inside of a member; with PS_JSON_ROOT the root counts as a member. */
typedef struct Walk
{
	PsJsonReader *reader;
	JsonLexContext *lex;
	int			depth;
	int			root_depth;		/* depth outside of the root */
	PsField    *member;			/* the member being read; NULL: it is not wanted */
	bool		in_expanded;
	const char *field_name;
	const char *value_start;	/* of the member or field that was named last */
	int			nnames;			/* names of the root so far */
	char	   *room;			/* for copies of strings; NULL: each has its own memory */
	int			fields_size;
	bool		root_is_object;
	bool		number_out_of_range;
	bool		has_escapes;	/* any string of the value may have escapes */
} Walk;

PsJsonNumber
ps_json_number(const char *text)
{
	PsJsonNumber number = {0};
	int			position = 0;	/* digits read so far */
	int			before_point = -1;
	int			first = 0;
	int			zeros = 0;
	const char *c = text;

	if (*c == '-')
	{
		number.negative = true;
		c++;
	}
	for (; (*c >= '0' && *c <= '9') || *c == '.'; c++)
	{
		if (*c == '.')
		{
			before_point = position;
			continue;
		}
		if (*c != '0' && number.digits == NULL)
		{
			number.digits = c;
			first = position;
		}
		zeros = *c == '0' ? zeros + 1 : 0;
		position++;
	}
	if (number.digits != NULL)
	{
		number.ndigits = position - first - zeros;
		number.exponent = (before_point < 0 ? position : before_point) - first - 1;
	}
	else
		number.digits = "";
	number.scale = before_point < 0 ? 0 : position - before_point;
	if (*c == 'e' || *c == 'E')
	{
		bool		negative = *++c == '-';
		int			exponent = 0;

		if (*c == '-' || *c == '+')
			c++;
		for (; *c >= '0' && *c <= '9'; c++)
			exponent = Min(exponent * 10 + (*c - '0'), 1000000);
		number.exponent += negative ? -exponent : exponent;
	}
	return number;
}

bool
ps_json_whole_number(const char *text, int max_digits, int64 *result)
{
	PsJsonNumber number = ps_json_number(text);
	int			read = 0;

	if (number.negative || number.exponent >= max_digits || number.exponent < number.ndigits - 1)
		return false;
	*result = 0;
	for (const char *c = number.digits; read < number.ndigits; c++)
	{
		if (*c == '.')
			continue;
		*result = *result * 10 + (*c - '0');
		read++;
	}
	for (; read <= number.exponent; read++)
		*result *= 10;
	return true;
}

/* How often a value has a byte; of more than the limit of the depth one more. */
static int
count_bytes(const char *value, int len, char byte)
{
	const char *end = value + len;
	int			n = 0;

	while (n <= PS_JSON_MAX_DEPTH && (value = memchr(value, byte, end - value)) != NULL)
	{
		value++;
		n++;
	}
	return n;
}

/* Whether brackets nest too deeply. Up to the first syntax error this scan agrees with the parser. */
static bool
nests_too_deep(const char *value, int len)
{
	int			depth = 0;
	bool		in_string = false;

	/* most values have too few brackets to nest deeply */
	if (count_bytes(value, len, '{') + count_bytes(value, len, '[') <= PS_JSON_MAX_DEPTH)
		return false;
	for (int i = 0; i < len; i++)
	{
		char		c = value[i];

		if (c == '"')
			in_string = !in_string;
		else if (in_string)
			i += c == '\\';
		else if (c == '{' || c == '[')
		{
			if (++depth > PS_JSON_MAX_DEPTH)
				return true;
		}
		else if (c == '}' || c == ']')
			depth--;
	}
	return false;
}

/* Appends a field of the expanded member. */
static PsField *
add_field(Walk *walk)
{
	PsJsonReader *reader = walk->reader;

	if (reader->nfields == walk->fields_size)
	{
		walk->fields_size = Max(4, walk->fields_size * 2);
		if (reader->fields == NULL)
			reader->fields = palloc(walk->fields_size * sizeof(PsField));
		else
			reader->fields = repalloc_huge(reader->fields, walk->fields_size * sizeof(PsField));
	}
	reader->fields[reader->nfields].name = walk->field_name;
	return &reader->fields[reader->nfields++];
}

/* The field for the value that begins or ends at this depth; NULL: it is not wanted. */
static PsField *
json_target(Walk *walk, bool begins)
{
	if (walk->depth == 1)
		return walk->member;
	if (walk->depth == 2 && walk->in_expanded)
		return begins ? add_field(walk) : &walk->reader->fields[walk->reader->nfields - 1];
	return NULL;
}

static void
begin_container(Walk *walk, PsJsonType type)
{
	PsField    *field = json_target(walk, true);

	if (walk->depth == walk->root_depth)
	{
		walk->root_is_object = type == PS_JSON_OBJECT;
		walk->in_expanded = walk->root_is_object && walk->root_depth == 1;
	}
	if (field != NULL)
	{
		field->type = type;
		field->text = walk->lex->token_start;
		field->len = 0;
	}
	if (walk->depth == 1 && type == PS_JSON_OBJECT && field != NULL)
		walk->in_expanded = field - walk->reader->members == walk->reader->expanded;
	walk->depth++;
}

static void
end_container(Walk *walk)
{
	PsField    *field;

	walk->depth--;
	field = json_target(walk, false);
	if (field != NULL)
		field->len = walk->lex->prev_token_terminator - field->text;
	if (walk->depth == 1)
		walk->in_expanded = false;
}

static PS_JSON_ACTION_RESULT
object_start(void *state)
{
	begin_container(state, PS_JSON_OBJECT);
	PS_JSON_ACTION_RETURN;
}

static PS_JSON_ACTION_RESULT
array_start(void *state)
{
	begin_container(state, PS_JSON_ARRAY);
	PS_JSON_ACTION_RETURN;
}

static PS_JSON_ACTION_RESULT
container_end(void *state)
{
	end_container(state);
	PS_JSON_ACTION_RETURN;
}

/* The name without escapes that ends before a colon. Sets its length. */
static const char *
name_before(const char *end, int *len)
{
	const char *last = end;
	const char *first;

	while (*--last != '"')
		;
	for (first = last - 1; *first != '"'; first--)
		;
	*len = last - first - 1;
	return first + 1;
}

/* Whether a name of a member is that of the next value. */
static bool
is_member_name(const char *member, const char *name, int len)
{
	return strncmp(member, name, len) == 0 && member[len] == '\0';
}

/* The wanted member of a name of the root, or NULL. Most values have their members in the order of the value before. */
static PsField *
find_wanted(Walk *walk, const char *name, int len)
{
	static int	places[EXPECTED_NAMES]; /* of the members that the names of the value before had */
	PsJsonReader *reader = walk->reader;
	int			nth = Min(walk->nnames++, EXPECTED_NAMES - 1);

	if (places[nth] < reader->nmembers && is_member_name(reader->members[places[nth]].name, name, len))
		return &reader->members[places[nth]];
	for (int i = 0; i < reader->nmembers; i++)
	{
		if (!is_member_name(reader->members[i].name, name, len))
			continue;
		places[nth] = i;
		return &reader->members[i];
	}
	return NULL;
}

/* Copies a string of the value, and terminates it. */
static char *
copy_string(Walk *walk, const char *string, int len)
{
	char	   *copy;

	if (walk->room == NULL)
		return pnstrdup(string, len);
	copy = walk->room;
	memcpy(copy, string, len);
	copy[len] = '\0';
	walk->room += len + 1;
	return copy;
}

/* Notes which member or field the next value belongs to. A repeated member replaces the earlier one. */
static PS_JSON_ACTION_RESULT
object_field_start(void *state, char *copy, bool isnull)
{
	Walk	   *walk = state;
	PsJsonReader *reader = walk->reader;
	const char *name = copy;
	int			len;

	if (walk->has_escapes)
		len = strlen(name);
	else
		name = name_before(walk->lex->prev_token_terminator, &len); /* the colon */

	walk->value_start = walk->lex->token_start;
	if (walk->depth == 1)
	{
		walk->member = find_wanted(walk, name, len);
		if (walk->member != NULL && walk->member - reader->members == reader->expanded)
			reader->nfields = 0;
	}
	if (walk->depth == 2 && walk->in_expanded)
		walk->field_name = walk->has_escapes ? copy : copy_string(walk, name, len);
	else if (walk->has_escapes)
		pfree(copy);			/* the next name gets the same memory, which is still in the cache */
	PS_JSON_ACTION_RETURN;
}

static bool
number_out_of_range(const char *text, int len)
{
	PsJsonNumber number;

	if (len <= 15 && strpbrk(text, "eE") == NULL)
		return false;
	if (len > PS_JSON_MAX_NUMBER_LEN)
		return true;
	number = ps_json_number(text);
	return number.exponent > PS_JSON_MAX_EXPONENT || number.exponent < -PS_JSON_MAX_EXPONENT;
}

static PS_JSON_ACTION_RESULT
json_scalar(void *state, char *token, JsonTokenType token_type)
{
	Walk	   *walk = state;
	PsField    *field = json_target(walk, true);
	int			len;

	if (field == NULL && token_type != JSON_TOKEN_NUMBER)
		PS_JSON_ACTION_RETURN;
	if (token_type == JSON_TOKEN_STRING && !walk->has_escapes)
	{
		len = walk->lex->prev_token_terminator - walk->value_start - 2;
		token = copy_string(walk, walk->value_start + 1, len);
	}
	else
		len = strlen(token);
	if (token_type == JSON_TOKEN_NUMBER && number_out_of_range(token, len))
		walk->number_out_of_range = true;
	if (field != NULL)
	{
		field->type = token_type == JSON_TOKEN_STRING ? PS_JSON_STRING :
			token_type == JSON_TOKEN_NUMBER ? PS_JSON_NUMBER :
			token_type == JSON_TOKEN_NULL ? PS_JSON_NULL : PS_JSON_BOOLEAN;
		field->text = token;
		field->len = len;
	}
	PS_JSON_ACTION_RETURN;
}

/* Orders fields by name; of equal names the last field comes first. */
static int
compare_fields(const void *a, const void *b)
{
	const PsField *const *left = a;
	const PsField *const *right = b;
	int			result = strcmp((*left)->name, (*right)->name);

	return result != 0 ? result : (*left < *right) - (*left > *right);
}

/* Removes all but the last of fields with the same name. Many fields are sorted for that, because comparing all pairs takes too long. */
static void
drop_repeated(PsJsonReader *reader)
{
	int			n = reader->nfields;
	int			kept = 0;

	if (n <= FEW_FIELDS)
	{
		for (int i = 0; i < n; i++)
		{
			int			j = i + 1;

			while (j < n && strcmp(reader->fields[i].name, reader->fields[j].name) != 0)
				j++;
			if (j == n)
				reader->fields[kept++] = reader->fields[i];
		}
	}
	else
	{
		Size		size = n * sizeof(PsField);
		PsField   **order = MemoryContextAllocHuge(CurrentMemoryContext, n * sizeof(PsField *));
		PsField    *fields = MemoryContextAllocHuge(CurrentMemoryContext, size);

		for (int i = 0; i < n; i++)
			order[i] = &reader->fields[i];
		qsort(order, n, sizeof(PsField *), compare_fields);
		for (int i = 0; i < n; i++)
		{
			if (i == 0 || strcmp(order[i]->name, order[i - 1]->name) != 0)
				fields[kept++] = *order[i];
		}
		pfree(order);
		pfree(reader->fields);
		reader->fields = fields;
	}
	reader->nfields = kept;
}

const char *
ps_json_read(const char *value, int len, PsJsonReader *reader)
{
	Walk		walk = {.reader = reader};
	JsonSemAction actions = {
		.semstate = &walk,
		.object_start = object_start,
		.object_end = container_end,
		.array_start = array_start,
		.array_end = container_end,
		.object_field_start = object_field_start,
		.scalar = json_scalar
	};
	JsonParseErrorType result;
	const char *reason = NULL;

	if (len == 0)
		return "the value is empty";
	if (pg_encoding_verifymbstr(PG_UTF8, value, len) != len)
		return "invalid UTF-8";
	if (nests_too_deep(value, len))
		return psprintf("nesting deeper than %d", PS_JSON_MAX_DEPTH);

	reader->fields = NULL;
	reader->nfields = 0;
	walk.depth = walk.root_depth = reader->expanded == PS_JSON_ROOT ? 1 : 0;
	walk.has_escapes = memchr(value, '\\', len) != NULL;
	/* the copies of all strings need no more room than the value, where each has two quotes */
	walk.room = !walk.has_escapes && len <= MAX_ROOM ? palloc(len) : NULL;
	walk.lex = ps_json_lex_make(value, len, PG_UTF8, walk.has_escapes);
	result = pg_parse_json(walk.lex, &actions);
	if (result != JSON_SUCCESS)
		reason = pstrdup(json_errdetail(result, walk.lex));
	else if (walk.number_out_of_range)
		reason = "number out of range";
	else if (!walk.root_is_object)
		reason = ps_json_not_object;
	else
		drop_repeated(reader);
	ps_json_lex_free(walk.lex);
	return reason;
}
