/*
 * profile.h
 *	  A customer's profile in memory, as far as events change it.
 */
#ifndef PS_PROFILE_H
#define PS_PROFILE_H

#include "core/window.h"

typedef struct PsEventCount
{
	const char *event_type;
	int			len;
	int64		count;
} PsEventCount;

typedef struct PsProfile
{
	bool		is_new;
	int64		version;
	TimestampTz updated_at;
	TimestampTz watermark;		/* greatest timestamp applied */
	const text *first_name;
	const text *last_name;
	const text *email;
	const text *phone;
	Numeric		total_balance;
	int64		account_count;
	TimestampTz last_transaction_at;	/* DT_NOBEGIN: never */
	TimestampTz last_login_at;	/* likewise */
	const text *preferred_channel;
	PsEventCount *event_counts;
	int			nevent_counts;
	int			event_counts_capacity;
	PsWindow	window;
} PsProfile;

/* A profile before its first event. */
extern void ps_profile_init(PsProfile *profile);

extern void ps_profile_count_event(PsProfile *profile, const char *event_type, int len, int64 count);

#endif							/* PS_PROFILE_H */
