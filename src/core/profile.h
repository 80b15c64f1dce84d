/*
 * profile.h
 *	  A customer's profile in memory, as far as events change it.
 */
#ifndef PS_PROFILE_H
#define PS_PROFILE_H

#include "core/window.h"

#define PS_MAX_EVENT_TYPES 256	/* that a profile counts, */
#define PS_MAX_EVENT_TYPE_BYTES 16384	/* with names of so many bytes in all; the rest it counts together, as */
#define PS_OTHER_EVENTS "other"

typedef struct PsEventCount
{
	const char *event_type;
	int			len;
	int64		count;
	Numeric		stored;			/* in the row's event_counts; NULL: not there */
	int64		stored_count;	/* what that says */
} PsEventCount;

/* Taken apart when one of them is asked for: core/attribute. */
typedef struct PsAttributes
{
	struct varlena *stored;		/* as in the row, or NULL: none */
	struct varlena *stored_times;
	bool		is_read;
	bool		changed;
	struct PsAttribute *items;
	int			nitems;
	int			capacity;
} PsAttributes;

typedef struct PsProfile
{
	bool		is_new;
	int64		version;
	TimestampTz updated_at;
	TimestampTz watermark;		/* greatest timestamp applied */
	TimestampTz first_event_at; /* least timestamp applied, DT_NOEND before that */
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
	int			event_type_bytes;	/* of their names */
	struct varlena *stored_counts;	/* event_counts of the row, when it has nothing but counts, else NULL */
	PsWindow	window;
	PsAttributes attributes;
} PsProfile;

/* A profile before its first event. */
extern void ps_profile_init(PsProfile *profile);

/* Adds a counter, of a type that has none. */
extern PsEventCount *ps_profile_add_count(PsProfile *profile, const char *event_type, int len, int64 count);

/* Counts an event: of its type, or of all others when the profile has as many types as it may. */
extern void ps_profile_count_event(PsProfile *profile, const char *event_type, int len);

#endif							/* PS_PROFILE_H */
