/*
 * json_append.c
 *	  Appends parts of JSON to a text, for what is written with each event.
 */
#include "postgres.h"

#include "core/iso8601.h"
#include "core/json_append.h"
#include "core/plain_text.h"
#include "utils/json.h"

void
ps_json_append_string(StringInfo json, const char *text)
{
	int			len = strlen(text);

	if (ps_plain_len(text, len) < len)
	{
		escape_json(json, text);
		return;
	}
	PS_APPEND_LITERAL(json, "\"");
	ps_append(json, text, len);
	PS_APPEND_LITERAL(json, "\"");
}

void
ps_json_append_time(StringInfo json, TimestampTz at)
{
	char text[	PS_ISO8601_SIZE + 2] = "\"";
	char	   *end = ps_iso8601_put(text +1, at);

	*end++ = '"';
	ps_append(json, text, end - text);
}
