/*
 * notify.c
 *	  The notifications of a transaction, and their payloads: always valid JSON, and
 *	  shorter than the 8,000 bytes that NOTIFY takes. They go to the stream's channel, and
 *	  to the channels of the customers' segments if the stream has a prefix for these.
 */
#include "postgres.h"

#include "apply/apply_state.h"
#include "apply/notify.h"
#include "commands/async.h"
#include "core/iso8601.h"
#include "core/json_append.h"
#include "core/last_event.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "settings.h"
#include "store/locks.h"
#include "store/secret.h"
#include "store/stream_catalog.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#define MAX_PAYLOAD 7900
#define MAX_SEGMENT 256			/* bytes of a name: two names fit into a payload with an id, also when all are escaped */

/* Leaves out the event types that do not fit. */
char *
ps_notify_payload(const char *customer_id, int64 version, TimestampTz updated_at, const PsEvent *last_event,
				  const char **event_types, int ntypes)
{
	StringInfoData payload;
	char		number[MAXINT8LEN + 1];

	initStringInfo(&payload);
	PS_APPEND_LITERAL(&payload, "{\"customerId\":");
	ps_json_append_string(&payload, customer_id);
	PS_APPEND_LITERAL(&payload, ",\"version\":");
	ps_append(&payload, number, pg_lltoa(version, number));
	PS_APPEND_LITERAL(&payload, ",\"updatedAt\":");
	ps_json_append_time(&payload, updated_at);
	PS_APPEND_LITERAL(&payload, ",\"lastEvent\":");
	ps_last_event_append(&payload, last_event);
	PS_APPEND_LITERAL(&payload, ",\"eventTypes\":[");
	for (int i = 0; i < ntypes; i++)
	{
		int			before = payload.len;

		if (i > 0)
			PS_APPEND_LITERAL(&payload, ",");
		ps_json_append_string(&payload, event_types[i]);
		if (payload.len > MAX_PAYLOAD)
		{
			payload.len = before;
			payload.data[before] = '\0';
			break;
		}
	}
	PS_APPEND_LITERAL(&payload, "]}");
	return payload.data;
}

void
ps_notify(const char *channel, const char *payload)
{
	Async_Notify(channel, payload);
}

/* A hash replaces a segment whose name is too long for a channel: two cut names could be the same. */
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

/* The payload always fits, because an id is short. */
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

/* Adds a member whose value is a segment's name, or its begin if it is long, or null. */
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
	int			len;

	initStringInfo(&payload);
	appendStringInfoString(&payload, "{\"customerId\":");
	escape_json(&payload, change->customer_id);
	append_segment(&payload, "from", change->from);
	append_segment(&payload, "to", change->to);
	appendStringInfo(&payload, ",\"kind\":\"%s\",\"at\":\"%s\"", kind, ps_format_timestamp(at));
	len = payload.len;
	if (change->event != NULL)
	{
		appendStringInfoString(&payload, ",\"lastEvent\":");
		ps_last_event_append(&payload, change->event);
	}
	/* only names that are escaped throughout are so long */
	if (payload.len > MAX_PAYLOAD)
		payload.len = len;
	appendStringInfoChar(&payload, '}');
	return payload.data;
}

/* Notifies of all changes of a commit at once. */
static void
notify_batch(const char *channel, const char *stream, int customers, int64 events)
{
	StringInfoData payload;

	initStringInfo(&payload);
	appendStringInfoString(&payload, "{\"stream\":");
	escape_json(&payload, stream);
	appendStringInfo(&payload, ",\"customers\":%d,\"events\":" INT64_FORMAT "}", customers, events);
	Async_Notify(channel, payload.data);
	pfree(payload.data);
}

void
ps_notify_scores(const PsWatches *watches, const PsScoreChange *changes, int n)
{
	for (int w = 0; watches != NULL && w < watches->n; w++)
	{
		const PsWatcher *watcher = &watches->watchers[w];
		const char *channel = watcher->notify_channel != NULL ? watcher->notify_channel : ps_secret_name(PS_UPDATES_CHANNEL);
		int			told = 0;

		if (strcmp(watcher->notify, "off") == 0)
			continue;
		for (int i = 0; i < n; i++)
		{
			if (!bms_overlap(watcher->names, changes[i].changed))
				continue;
			told++;
			if (strcmp(watcher->notify, "customer") == 0)
				ps_notify(channel, ps_notify_payload(changes[i].customer_id, changes[i].version, changes[i].updated_at, NULL, NULL, 0));
		}
		if (told > 0 && strcmp(watcher->notify, "batch") == 0)
			notify_batch(channel, watcher->stream, told, 0);
	}
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
				 errhint("End the session that listens and has had a transaction open for long; see pg_stat_activity.")));
	was_full = full;
	return full;
}

/* The queue may fill up after ps_notify_queue_full() has looked, and one transaction may have too many notifications. */
bool
ps_notify_overflowed(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_PROGRAM_LIMIT_EXCEEDED &&
		error->funcname != NULL && strcmp(error->funcname, "PreCommit_Notify") == 0;
}

/* Whether the stream tells of a customer. */
static bool
tells_of(const PsApplyState *state, const PsCustomer *customer)
{
	return customer->napplied > 0 && ps_watches_tell(state->watches, Max(state->settings->stream_id, state->settings->letters_of), customer->changed);
}

/* Sends one notification per customer, and one more to the channel of its segment. */
static void
announce_customers(const PsApplyState *state)
{
	const PsApplySettings *settings = state->settings;

	for (int i = 0; i < state->ncustomers; i++)
	{
		const PsCustomer *customer = state->customers[i];
		char	   *payload;

		if (!tells_of(state, customer))
			continue;
		payload = ps_notify_payload(customer->customer_id, customer->version, customer->updated_at, customer->last_event,
									customer->event_types, customer->nevent_types);
		ps_notify(settings->notify_channel, payload);
		if (customer->segment != NULL)
			ps_notify(ps_segment_channel(settings->segment_channel_prefix, customer->segment), payload);
		pfree(payload);
	}
}

void
ps_notify_changes(const PsApplyState *state)
{
	const PsApplySettings *settings = state->settings;
	int			customers = 0;
	int64		events = 0;
	int			notifications = 1;

	if (settings->notify == PS_NOTIFY_OFF)
		return;
	for (int i = 0; i < state->ncustomers; i++)
	{
		if (!tells_of(state, state->customers[i]))
			continue;
		customers++;
		events += state->customers[i]->napplied;
	}
	if (customers == 0)
		return;
	if (settings->notify == PS_NOTIFY_CUSTOMER)
		notifications = settings->segment_channel_prefix == NULL ? customers : 2 * customers;
	if (!settings->notify_full && !ps_notify_queue_full(ps_notify_queue_limit))
	{
		if (settings->notify == PS_NOTIFY_CUSTOMER)
			announce_customers(state);
		else
			notify_batch(settings->notify_channel, settings->stream, customers, events);
	}
	else if (settings->stream_id != 0)
		ps_stream_count_skipped(settings->stream_id, notifications);
	PS_FAILPOINT("after_notify");
}
