/*
 * profile.c
 *	  What a profile starts as, and its event counters.
 */
#include "postgres.h"

#include "core/profile.h"
#include "utils/builtins.h"

/* Sets a profile to what a customer has before the first event. */
void
ps_profile_init(PsProfile *profile)
{
	memset(profile, 0, sizeof(PsProfile));
	profile->is_new = true;
	profile->updated_at = DT_NOBEGIN;
	profile->watermark = DT_NOBEGIN;
	profile->first_event_at = DT_NOEND;
	profile->first_name = profile->last_name = profile->email = profile->phone = cstring_to_text("");
	profile->total_balance = int64_to_numeric(0);
	profile->last_transaction_at = DT_NOBEGIN;
	profile->last_login_at = DT_NOBEGIN;
	profile->preferred_channel = cstring_to_text("app");
	(void) ps_window_load(&profile->window, NULL, 0);
}

PsEventCount *
ps_profile_add_count(PsProfile *profile, const char *event_type, int len, int64 count)
{
	PsEventCount *entry;

	if (profile->nevent_counts >= profile->event_counts_capacity)
	{
		profile->event_counts_capacity = Max(8, 2 * profile->event_counts_capacity);
		if (profile->event_counts == NULL)
			profile->event_counts = palloc(profile->event_counts_capacity * sizeof(PsEventCount));
		else
			profile->event_counts = repalloc(profile->event_counts,
											 profile->event_counts_capacity * sizeof(PsEventCount));
	}
	entry = &profile->event_counts[profile->nevent_counts++];
	entry->event_type = event_type;
	entry->len = len;
	entry->count = count;
	entry->stored = NULL;
	profile->event_type_bytes += len;
	return entry;
}

/* Counts one more of a type that has a counter; whether it has. */
static bool
count_known(PsProfile *profile, const char *event_type, int len)
{
	for (int i = 0; i < profile->nevent_counts; i++)
	{
		PsEventCount *entry = &profile->event_counts[i];

		if (entry->len == len && memcmp(entry->event_type, event_type, len) == 0)
		{
			entry->count++;
			return true;
		}
	}
	return false;
}

void
ps_profile_count_event(PsProfile *profile, const char *event_type, int len)
{
	if (count_known(profile, event_type, len))
		return;
	if (profile->nevent_counts >= PS_MAX_EVENT_TYPES || profile->event_type_bytes + len > PS_MAX_EVENT_TYPE_BYTES)
	{
		event_type = PS_OTHER_EVENTS;
		len = strlen(PS_OTHER_EVENTS);
		if (count_known(profile, event_type, len))
			return;
	}
	(void) ps_profile_add_count(profile, event_type, len, 1);
}
