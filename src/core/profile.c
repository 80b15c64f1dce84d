/*
 * profile.c
 *	  The initial profile, the table of its columns, and its event counters.
 */
#include "postgres.h"

#include "core/jsonb_object.h"
#include "core/profile.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#define OFFSET_TEXT(column) offsetof(PsProfile, column)
#define OFFSET_NUMERIC(column) offsetof(PsProfile, column)
#define OFFSET_INT8(column) offsetof(PsProfile, column)
#define OFFSET_TIME(column) offsetof(PsProfile, column)
#define OFFSET_NULLABLE_TIME(column) offsetof(PsProfile, column)
#define OFFSET_EVENT_COUNTS(column) 0
#define OFFSET_EVENT_IDS(column) 0
#define OFFSET_WINDOW_STATE(column) 0
#define OFFSET_ATTRIBUTES(column) 0
#define OFFSET_ATTRIBUTE_TIMES(column) 0
#define OFFSET_SEGMENT_STATE(column) 0

#define UNKNOWN_TEXT(initial) initial
#define UNKNOWN_NUMERIC(initial) NULL
#define UNKNOWN_INT8(initial) NULL
#define UNKNOWN_TIME(initial) NULL
#define UNKNOWN_NULLABLE_TIME(initial) NULL
#define UNKNOWN_EVENT_COUNTS(initial) NULL
#define UNKNOWN_EVENT_IDS(initial) NULL
#define UNKNOWN_WINDOW_STATE(initial) NULL
#define UNKNOWN_ATTRIBUTES(initial) NULL
#define UNKNOWN_ATTRIBUTE_TIMES(initial) NULL
#define UNKNOWN_SEGMENT_STATE(initial) NULL

enum
{
	COMPUTED, SETTABLE
};

#define DESCRIBE(column, kind, access, initial, member) {#column, PS_PROFILE_##kind, access == SETTABLE, member, UNKNOWN_##kind(initial), OFFSET_##kind(column)},

const PsProfileColumn ps_profile_columns[PS_PROFILE_NCOLUMNS] = {PS_PROFILE_COLUMNS(DESCRIBE,)};

const PsProfileColumn *
ps_profile_find_column(const char *name)
{
	for (int i = 0; i < PS_PROFILE_NCOLUMNS; i++)
		if (strcmp(ps_profile_columns[i].name, name) == 0)
			return &ps_profile_columns[i];
	return NULL;
}

const PsProfileColumn *
ps_profile_find_member(const char *member, int len)
{
	for (int i = 0; i < PS_PROFILE_NCOLUMNS; i++)
	{
		const char *found = ps_profile_columns[i].member;

		if (found != NULL && strlen(found) == len && memcmp(found, member, len) == 0)
			return &ps_profile_columns[i];
	}
	return NULL;
}

bool
ps_profile_is_score(const char *name)
{
	return strcmp(name, PS_SCORE_SEGMENT) == 0 || strcmp(name, PS_SCORE_CHURN_RISK) == 0 || strcmp(name, PS_SCORE_LIFETIME_VALUE) == 0;
}

#define INIT_TEXT(column, initial) profile->column = empty;
#define INIT_NUMERIC(column, initial) profile->column = int64_to_numeric(initial);
#define INIT_INT8(column, initial) profile->column = initial;
#define INIT_TIME(column, initial) profile->column = initial;
#define INIT_NULLABLE_TIME(column, initial) profile->column = initial;
#define INIT_EVENT_COUNTS(column, initial)
#define INIT_EVENT_IDS(column, initial) (void) ps_event_ids_load(&profile->event_ids, NULL);
#define INIT_WINDOW_STATE(column, initial) (void) ps_window_load(&profile->window, NULL, 0);
#define INIT_ATTRIBUTES(column, initial)
#define INIT_ATTRIBUTE_TIMES(column, initial)
#define INIT_SEGMENT_STATE(column, initial)
#define INIT(column, kind, access, initial, member) INIT_##kind(column, initial)

void
ps_profile_init(PsProfile *profile)
{
	const text *empty = cstring_to_text("");

	memset(profile, 0, sizeof(PsProfile));
	profile->is_new = true;
	PS_PROFILE_COLUMNS(INIT,)
}

PsEventCount *
ps_profile_add_count(PsProfile *profile, const char *event_type, int len)
{
	PsEventCount *entry;
	int			place;

	if (profile->nevent_counts >= profile->event_counts_capacity)
	{
		profile->event_counts_capacity = Max(8, 2 * profile->event_counts_capacity);
		if (profile->event_counts == NULL)
			profile->event_counts = palloc(profile->event_counts_capacity * sizeof(PsEventCount));
		else
			profile->event_counts = repalloc(profile->event_counts,
											 profile->event_counts_capacity * sizeof(PsEventCount));
	}
	for (place = profile->nevent_counts++; place > 0; place--)
	{
		entry = &profile->event_counts[place - 1];
		if (ps_jsonb_compare_keys(entry->event_type, entry->len, event_type, len) < 0)
			break;
		profile->event_counts[place] = *entry;
	}
	entry = &profile->event_counts[place];
	*entry = (PsEventCount)
	{
		event_type, len
	};
	profile->event_type_bytes += len;
	return entry;
}

int64
ps_profile_count(const PsEventCount *count)
{
	return (count->stored == NULL ? 0 : DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(count->stored)))) + count->added;
}

/* The counter of a type; NULL when it has none. */
static PsEventCount *
find_count(PsProfile *profile, const char *event_type, int len)
{
	for (int i = 0; i < profile->nevent_counts; i++)
	{
		PsEventCount *entry = &profile->event_counts[i];

		if (entry->len == len && memcmp(entry->event_type, event_type, len) == 0)
			return entry;
	}
	return NULL;
}

/* The counter of a type, made when there is none; that of all others when the profile has as many types as it may. */
static PsEventCount *
take_count(PsProfile *profile, const char *event_type, int len)
{
	PsEventCount *entry = find_count(profile, event_type, len);

	if (entry != NULL)
		return entry;
	if (profile->nevent_counts >= PS_MAX_EVENT_TYPES || profile->event_type_bytes + len > PS_MAX_EVENT_TYPE_BYTES)
	{
		event_type = PS_OTHER_EVENTS;
		len = strlen(PS_OTHER_EVENTS);
		entry = find_count(profile, event_type, len);
		if (entry != NULL)
			return entry;
	}
	return ps_profile_add_count(profile, event_type, len);
}

void
ps_profile_count_event(PsProfile *profile, const char *event_type, int len)
{
	take_count(profile, event_type, len)->added++;
}

void
ps_profile_set_count(PsProfile *profile, const char *event_type, int len, int64 count)
{
	PsEventCount *entry = take_count(profile, event_type, len);

	if (entry->len == len && memcmp(entry->event_type, event_type, len) == 0)
		count -= ps_profile_count(entry);
	entry->added += count;
}
