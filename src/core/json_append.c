/*
 * json_append.c
 *	  Appends parts of JSON to a text, for what is written with each event.
 */
#include "postgres.h"

#include "core/iso8601.h"
#include "core/json_append.h"
#include "utils/json.h"

void
ps_json_append_string(StringInfo json, const char *text)
{
	const char *end = text;

	while (*end != '"' && *end != '\\' && (unsigned char) *end >= ' ')
		end++;
	if (*end != '\0')
	{
		escape_json(json, text);
		return;
	}
	PS_APPEND_LITERAL(json, "\"");
	ps_append(json, text, end - text);
	PS_APPEND_LITERAL(json, "\"");
}

void
ps_json_append_time(StringInfo json, TimestampTz at)
{
	char		quoted[PS_ISO8601_SIZE + 2] = "\"";
	char	   *end = ps_iso8601_put(quoted + 1, at);

	*end++ = '"';
	ps_append(json, quoted, end - quoted);
}
