/*
 * notify_changes.c
 *	  The notifications of one transaction of apply: on the stream's channel and,
 *	  where it has a prefix for them, on the channels of the customers' segments.
 */
#include "postgres.h"

#include "apply/apply_state.h"
#include "apply/notify.h"
#include "settings.h"
#include "store/profile_store.h"
#include "store/stream_catalog.h"

/* One notification per customer, and one more in its segment's channel. */
static void
announce_customers(const PsApplyState *state, int ncustomers)
{
	const PsApplySettings *settings = state->settings;
	const PsCustomer **customers = palloc(ncustomers * sizeof(PsCustomer *));
	const PsStoredProfile **profiles = palloc(ncustomers * sizeof(PsStoredProfile *));
	const char **segments = palloc(ncustomers * sizeof(char *));
	int			n = 0;

	for (int i = 0; i < state->ncustomers; i++)
	{
		if (state->customers[i]->napplied == 0)
			continue;
		customers[n] = state->customers[i];
		profiles[n++] = &state->customers[i]->stored;
	}
	if (settings->segment_channel_prefix != NULL)
		ps_profiles_segments(profiles, n, segments);
	for (int i = 0; i < n; i++)
	{
		char	   *payload = ps_notify_payload(customers[i]->customer_id, profiles[i]->profile.version, profiles[i]->profile.updated_at,
												customers[i]->event_types, customers[i]->nevent_types);

		ps_notify(settings->notify_channel, payload);
		if (settings->segment_channel_prefix != NULL && segments[i] != NULL)
			ps_notify(ps_segment_channel(settings->segment_channel_prefix, segments[i]), payload);
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
		customers += state->customers[i]->napplied > 0;
		events += state->customers[i]->napplied;
	}
	if (customers == 0)
		return;
	if (settings->notify == PS_NOTIFY_CUSTOMER)
		notifications = settings->segment_channel_prefix == NULL ? customers : 2 * customers;
	if (!settings->notify_full && !ps_notify_queue_full(ps_notify_queue_limit))
	{
		if (settings->notify == PS_NOTIFY_CUSTOMER)
			announce_customers(state, customers);
		else
			ps_notify_batch(settings->notify_channel, settings->stream, customers, events);
	}
	else if (settings->stream_id != 0)
		ps_stream_count_skipped(settings->stream_id, notifications);
	PS_FAILPOINT("after_notify");
}
