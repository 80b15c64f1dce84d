/*
 * notify.c
 *	  Notification payloads, always valid JSON and shorter than 8,000 bytes.
 */
#include "postgres.h"

#include "apply/notify.h"
#include "commands/async.h"
#include "core/iso8601.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "store/locks.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#define MAX_PAYLOAD 7900
#define MAX_SEGMENT 256			/* bytes; escaped, twice and with an id, they fit */

/* Event types that would not fit are left out. */
char *
ps_notify_payload(const char *customer_id, int64 version, TimestampTz updated_at, const char **event_types, int ntypes)
{
	StringInfoData payload;

	initStringInfo(&payload);
	appendStringInfoString(&payload, "{\"customerId\":");
	escape_json(&payload, customer_id);
	appendStringInfo(&payload, ",\"version\":" INT64_FORMAT ",\"updatedAt\":\"%s\",\"eventTypes\":[",
					 version, ps_format_timestamp(updated_at));
	for (int i = 0; i < ntypes; i++)
	{
		int			before = payload.len;

		if (i > 0)
			appendStringInfoChar(&payload, ',');
		escape_json(&payload, event_types[i]);
		if (payload.len > MAX_PAYLOAD)
		{
			payload.len = before;
			payload.data[before] = '\0';
			break;
		}
	}
	appendStringInfoString(&payload, "]}");
	return payload.data;
}

void
ps_notify(const char *channel, const char *payload)
{
	Async_Notify(channel, payload);
}

/* A hash stands for a segment that would make the name too long: cut names might be the same. */
char *
ps_segment_channel(const char *prefix, const char *segment)
{
	int			len = strlen(segment);

	if (strlen(prefix) + len < NAMEDATALEN)
		return psprintf("%s%s", prefix, segment);
	return psprintf("%s%016llx", prefix, (unsigned long long) ps_lock_key(segment, len));
}

void
ps_notify_rebuilt(const char *channel, const char *stream, int64 profiles)
{
	StringInfoData payload;

	initStringInfo(&payload);
	appendStringInfoString(&payload, "{\"stream\":");
	escape_json(&payload, stream);
	appendStringInfo(&payload, ",\"rebuilt\":" INT64_FORMAT "}", profiles);
	Async_Notify(channel, payload.data);
	pfree(payload.data);
}

/* An id is short enough, whatever has to be escaped. */
void
ps_notify_forgotten(const char *channel, const char *customer_id)
{
	StringInfoData payload;

	initStringInfo(&payload);
	appendStringInfoString(&payload, "{\"customerId\":");
	escape_json(&payload, customer_id);
	appendStringInfoString(&payload, ",\"version\":0,\"forgotten\":true}");
	Async_Notify(channel, payload.data);
	pfree(payload.data);
}

/* Adds a member whose value is text or null; of more than a segment's name has, the begin. */
static void
append_segment(StringInfo payload, const char *name, const char *segment)
{
	appendStringInfo(payload, ",\"%s\":", name);
	if (segment == NULL)
		appendStringInfoString(payload, "null");
	else
		escape_json(payload, pnstrdup(segment, pg_mbcliplen(segment, strlen(segment), MAX_SEGMENT)));
}

char *
ps_notify_segment_payload(const PsSegmentChange *change, const char *kind, TimestampTz at)
{
	StringInfoData payload;

	initStringInfo(&payload);
	appendStringInfoString(&payload, "{\"customerId\":");
	escape_json(&payload, change->customer_id);
	append_segment(&payload, "from", change->from);
	append_segment(&payload, "to", change->to);
	appendStringInfo(&payload, ",\"kind\":\"%s\",\"at\":\"%s\"}", kind, ps_format_timestamp(at));
	return payload.data;
}

void
ps_notify_batch(const char *channel, const char *stream, int customers, int64 events)
{
	StringInfoData payload;

	initStringInfo(&payload);
	appendStringInfoString(&payload, "{\"stream\":");
	escape_json(&payload, stream);
	appendStringInfo(&payload, ",\"customers\":%d,\"events\":" INT64_FORMAT "}", customers, events);
	Async_Notify(channel, payload.data);
	pfree(payload.data);
}

bool
ps_notify_queue_full(double limit)
{
	static bool was_full = false;

	LOCAL_FCINFO(fcinfo, 0);
	double		usage;
	bool		full;

	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	usage = DatumGetFloat8(pg_notification_queue_usage(fcinfo));
	full = usage > limit;
	if (full && !was_full)
		ereport(WARNING,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("notifications are skipped, because %.6g %% of the server's notification queue is in use", usage * 100),
				 errhint("End the session that said LISTEN and keeps a transaction open; see pg_stat_activity.")));
	was_full = full;
	return full;
}

/* Others may fill the queue after it was asked, and one transaction may have more than there is room for. */
bool
ps_notify_overflowed(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_PROGRAM_LIMIT_EXCEEDED &&
		error->funcname != NULL && strcmp(error->funcname, "PreCommit_Notify") == 0;
}
