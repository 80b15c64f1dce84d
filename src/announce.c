/*
 * announce.c
 *	  The notifications of one transaction of apply: on the stream's channel and,
 *	  where it has a prefix for them, on the channels of the customers' segments.
 */
#include "postgres.h"

#include "sink/notify.h"
#include "store/profile_store.h"
#include "store/stream_catalog.h"
#include "work.h"

/* The segments of customers that changed; they are not of the columns that apply loads. */
static const char **
read_segments(const PsWork *work)
{
	const char **customer_ids = palloc(work->ncustomers * sizeof(char *));
	const char **segments = palloc0(work->ncustomers * sizeof(char *));

	for (int i = 0; i < work->ncustomers; i++)
		customer_ids[i] = work->customers[i]->napplied > 0 ? work->customers[i]->customer_id : NULL;
	ps_profiles_read_segments(customer_ids, work->ncustomers, segments);
	return segments;
}

/* One notification per customer, and one more in its segment's channel. */
static void
announce_customers(const PsWork *work)
{
	const PsApplySettings *settings = work->settings;
	const char **segments = settings->segment_channel_prefix == NULL ? NULL : read_segments(work);

	for (int i = 0; i < work->ncustomers; i++)
	{
		const PsCustomer *customer = work->customers[i];
		char	   *payload;

		if (customer->napplied == 0)
			continue;
		payload = ps_notify_payload(customer->customer_id, customer->stored.profile.version, customer->stored.profile.updated_at,
									customer->event_types, customer->nevent_types);
		ps_notify(settings->notify_channel, payload);
		if (segments != NULL && segments[i] != NULL)
			ps_notify(ps_segment_channel(settings->segment_channel_prefix, segments[i]), payload);
		pfree(payload);
	}
}

void
ps_work_announce(const PsWork *work)
{
	const PsApplySettings *settings = work->settings;
	int			customers = 0;
	int64		events = 0;
	int			notifications = 1;

	if (settings->notify == PS_NOTIFY_OFF)
		return;
	for (int i = 0; i < work->ncustomers; i++)
	{
		customers += work->customers[i]->napplied > 0;
		events += work->customers[i]->napplied;
	}
	if (customers == 0)
		return;
	if (settings->notify == PS_NOTIFY_CUSTOMER)
		notifications = settings->segment_channel_prefix == NULL ? customers : 2 * customers;
	if (!settings->notify_full && !ps_notify_queue_full(ps_notify_queue_limit))
	{
		if (settings->notify == PS_NOTIFY_CUSTOMER)
			announce_customers(work);
		else
			ps_notify_batch(settings->notify_channel, settings->stream, customers, events);
	}
	else if (settings->stream_id != 0)
		ps_stream_count_skipped(settings->stream_id, notifications);
	PS_FAILPOINT("after_notify");
}
