/*
 * last_event.c
 *	  The event that was applied last, as sinks and listeners are told of it.
 */
#include "postgres.h"

#include "core/iso8601.h"
#include "core/last_event.h"
#include "mb/pg_wchar.h"
#include "utils/json.h"

#define MAX_SOURCE 256			/* bytes: with two ids it fits into a notification, also when all are escaped */

void
ps_json_append_string(StringInfo json, const char *text)
{
	const char *c = text;

	while (*c != '"' && *c != '\\' && (unsigned char) *c >= ' ')
		c++;
	if (*c != '\0')
	{
		escape_json(json, text);
		return;
	}
	appendStringInfoChar(json, '"');
	appendBinaryStringInfo(json, text, c - text);
	appendStringInfoChar(json, '"');
}

void
ps_last_event_append(StringInfo json, const PsEvent *event)
{
	char	   *at;
	int			len;

	if (event == NULL)
	{
		appendStringInfoString(json, "null");
		return;
	}
	at = ps_format_timestamp(event->timestamp);
	appendStringInfoString(json, "{\"eventId\":");
	ps_json_append_string(json, event->event_id);
	appendStringInfoString(json, ",\"timestamp\":\"");
	appendStringInfoString(json, at);
	appendStringInfoString(json, "\",\"source\":");
	pfree(at);
	len = event->source == NULL ? 0 : strlen(event->source);
	if (event->source == NULL)
		appendStringInfoString(json, "null");
	else if (len <= MAX_SOURCE)
		ps_json_append_string(json, event->source);
	else
		escape_json(json, pnstrdup(event->source, pg_mbcliplen(event->source, len, MAX_SOURCE)));
	appendStringInfoChar(json, '}');
}
