/*
 * last_event.c
 *	  The event that was applied last, as sinks and listeners are told of it.
 */
#include "postgres.h"

#include "core/json_append.h"
#include "core/last_event.h"
#include "mb/pg_wchar.h"

#define MAX_SOURCE 256			/* bytes: with two ids it fits into a notification, also when all are escaped */

void
ps_last_event_append(StringInfo json, const PsEvent *event)
{
	const char *source;

	if (event == NULL)
	{
		PS_APPEND_LITERAL(json, "null");
		return;
	}
	PS_APPEND_LITERAL(json, "{\"eventId\":");
	ps_json_append_string(json, event->event_id);
	PS_APPEND_LITERAL(json, ",\"timestamp\":");
	ps_json_append_time(json, event->timestamp);
	PS_APPEND_LITERAL(json, ",\"source\":");
	source = event->source;
	if (source == NULL)
		PS_APPEND_LITERAL(json, "null");
	else
	{
		int			len = strlen(source);

		if (len > MAX_SOURCE)
			source = pnstrdup(source, pg_mbcliplen(source, len, MAX_SOURCE));
		ps_json_append_string(json, source);
	}
	PS_APPEND_LITERAL(json, "}");
}
