/*
 * path.c
 *	  Paths of keys: parses them, and follows them into a payload.
 */
#include "postgres.h"

#include "core/json.h"
#include "core/path.h"

#define NO_PATH "is not a path of keys, such as $.amount or $.\"odd key\".tier"

/* Reads a key, quoted or not as in jsonpath, and moves *at behind it; NULL when there is none. */
static char *
take_key(const char **at)
{
	const char *c = *at;
	char	   *key = palloc(strlen(c) + 1);
	int			len = 0;

	if (*c == '"')
	{
		for (c++; *c != '\0' && *c != '"'; c++)
		{
			if (*c == '\\' && *++c != '"' && *c != '\\')
				return NULL;
			key[len++] = *c;
		}
		if (*c++ != '"')
			return NULL;
	}
	else
	{
		while ((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || *c == '_' || IS_HIGHBIT_SET(*c) ||
			   (*c >= '0' && *c <= '9' && len > 0))
			key[len++] = *c++;
		if (len == 0)
			return NULL;
	}
	key[len] = '\0';
	*at = c;
	return key;
}

const char *
ps_path_parse(const char *text, PsPath *path)
{
	const char *c = text +1;

	path->nkeys = 0;
	if (text[0] != '$')
		return NO_PATH;
	while (*c == '.')
	{
		char	   *key;

		c++;
		if (path->nkeys == PS_MAX_PATH_KEYS)
			return psprintf("has more than %d keys", PS_MAX_PATH_KEYS);
		key = take_key(&c);
		if (key == NULL)
			return NO_PATH;
		path->keys[path->nkeys++] = key;
	}
	return *c == '\0' ? NULL : NO_PATH;
}

/* The member of an object given as raw JSON, which is known to be valid; null when it is absent. */
static PsField
member_of(const PsField *object, const char *key)
{
	PsField		member = {key, PS_JSON_NULL};
	PsJsonReader reader = {&member, 1, PS_JSON_NO_MEMBER};

	if (object->type == PS_JSON_OBJECT)
		(void) ps_json_read(object->text, object->len, &reader);
	return member;
}

PsField
ps_path_find(const PsEvent *event, const PsPath *path)
{
	const PsField *first = ps_event_field(event, path->keys[0]);
	PsField		field = {path->keys[0], PS_JSON_NULL};

	if (first != NULL)
		field = *first;
	for (int i = 1; i < path->nkeys && field.type != PS_JSON_NULL; i++)
		field = member_of(&field, path->keys[i]);
	return field;
}
