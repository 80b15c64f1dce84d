/*
 * profile.h
 *	  A customer's profile in memory, as far as events change it.
 */
#ifndef PS_PROFILE_H
#define PS_PROFILE_H

#include "core/event_ids.h"
#include "core/window.h"

/* A profile counts so many types of events apart, with names of so many bytes in all; the others together. */
#define PS_MAX_EVENT_TYPES 256
#define PS_MAX_EVENT_TYPE_BYTES 16384
#define PS_OTHER_EVENTS "other"

typedef struct PsEventCount
{
	const char *event_type;
	int			len;
	Numeric		stored;			/* the counter in the row's event_counts; NULL: it is new */
	int64		added;			/* to it: most counters of a row stay as they are, and are not read */
} PsEventCount;

/* Parsed by core/attribute when the first attribute is asked for: most events ask for none. */
typedef struct PsAttributes
{
	struct varlena *stored;		/* jsonb of the row; NULL: none */
	struct varlena *stored_times;	/* likewise */
	bool		is_read;
	bool		changed;
	bool		is_touched;		/* one was set since ps_attribute_changes() */
	struct PsAttribute *items;
	int			nitems;
	int			capacity;
} PsAttributes;

/*
 * The columns of materialized_profiles that events change, each a row, in the
 * order of the table, where customer_id precedes them. Everything else is made
 * from this list: the struct, reading and writing of rows, the statements, the
 * document, the columns that map_attribute() may name, rebuild and comparison.
 *
 *	X(column, kind, access, initial, member)
 *
 *	column	its name, and that of the field
 *	kind	TEXT, NUMERIC, INT8, TIME, or NULLABLE_TIME, whose DT_NOBEGIN is null in the
 *			row; the others are columns with code of their own in store/profile_row
 *	access	SETTABLE: functions of users may change it; COMPUTED: only events do
 *	initial	its value before the first event; of a TEXT, which is empty then, what the document shows in its place
 *	member	of the profile's document; NULL: not shown there
 *
 * Between the rows stands SEPARATOR, which may be empty.
 */
#define PS_PROFILE_COLUMNS(X, SEPARATOR) \
	PS_COLUMNS_BEFORE_IDS(X, SEPARATOR) SEPARATOR \
	X(event_ids, EVENT_IDS, COMPUTED, NULL, NULL) SEPARATOR \
	PS_COLUMNS_AFTER_IDS(X, SEPARATOR) SEPARATOR \
	X(segment_state, SEGMENT_STATE, COMPUTED, NULL, NULL)

/* All that a rebuild makes anew: what is known of segments follows from the rest. */
#define PS_REBUILT_COLUMNS(X, SEPARATOR) \
	PS_COLUMNS_BEFORE_IDS(X, SEPARATOR) SEPARATOR \
	X(event_ids, EVENT_IDS, COMPUTED, NULL, NULL) SEPARATOR \
	PS_COLUMNS_AFTER_IDS(X, SEPARATOR)

/* All but event_ids: what an event does to the profile, which a rebuild must give again. */
#define PS_COMPARED_COLUMNS(X, SEPARATOR) \
	PS_COLUMNS_BEFORE_IDS(X, SEPARATOR) SEPARATOR PS_COLUMNS_AFTER_IDS(X, SEPARATOR)

/*
 * An update logs all bytes from the first that changes to the last one. So the
 * columns that most events change stand together. At their edges stand those that
 * are long, and of which only the end changes (event_counts) or the begin
 * (window_state).
 */
#define PS_COLUMNS_BEFORE_IDS(X, SEPARATOR) \
	X(event_counts, EVENT_COUNTS, COMPUTED, NULL, "eventCounts") SEPARATOR \
	X(version, INT8, COMPUTED, 0, "version") SEPARATOR \
	X(updated_at, TIME, COMPUTED, DT_NOBEGIN, "lastUpdatedAt") SEPARATOR \
	X(watermark, TIME, COMPUTED, DT_NOBEGIN, NULL) SEPARATOR /* greatest timestamp applied */ \
	X(last_transaction_at, NULLABLE_TIME, SETTABLE, DT_NOBEGIN, "lastTransactionDate") SEPARATOR \
	X(last_login_at, NULLABLE_TIME, SETTABLE, DT_NOBEGIN, "lastLoginDate") SEPARATOR \
	X(total_balance, NUMERIC, SETTABLE, 0, "totalBalance")

#define PS_COLUMNS_AFTER_IDS(X, SEPARATOR) \
	X(window_state, WINDOW_STATE, COMPUTED, NULL, NULL) SEPARATOR \
	X(first_name, TEXT, SETTABLE, "", "firstName") SEPARATOR \
	X(last_name, TEXT, SETTABLE, "", "lastName") SEPARATOR \
	X(email, TEXT, SETTABLE, "", "email") SEPARATOR \
	X(phone, TEXT, SETTABLE, "", "phone") SEPARATOR \
	X(preferred_channel, TEXT, SETTABLE, "app", "preferredChannel") SEPARATOR \
	X(attributes, ATTRIBUTES, SETTABLE, NULL, "attributes") SEPARATOR \
	X(attribute_times, ATTRIBUTE_TIMES, COMPUTED, NULL, NULL) SEPARATOR \
	X(account_count, INT8, SETTABLE, 0, "accountCount") SEPARATOR \
	X(first_event_at, TIME, COMPUTED, DT_NOEND, NULL)	/* least timestamp applied */

typedef enum PsProfileKind
{
	PS_PROFILE_TEXT,
	PS_PROFILE_NUMERIC,
	PS_PROFILE_INT8,
	PS_PROFILE_TIME,
	PS_PROFILE_NULLABLE_TIME,
	PS_PROFILE_EVENT_COUNTS,
	PS_PROFILE_EVENT_IDS,
	PS_PROFILE_WINDOW_STATE,
	PS_PROFILE_ATTRIBUTES,
	PS_PROFILE_ATTRIBUTE_TIMES,
	PS_PROFILE_SEGMENT_STATE
} PsProfileKind;

/* The fields that hold the columns of a kind; those of five kinds are written out below. */
#define PS_FIELD_TEXT(column) const text *column;
#define PS_FIELD_NUMERIC(column) Numeric column;
#define PS_FIELD_INT8(column) int64 column;
#define PS_FIELD_TIME(column) TimestampTz column;
#define PS_FIELD_NULLABLE_TIME(column) TimestampTz column;
#define PS_FIELD_EVENT_COUNTS(column)
#define PS_FIELD_EVENT_IDS(column)
#define PS_FIELD_WINDOW_STATE(column)
#define PS_FIELD_ATTRIBUTES(column)
#define PS_FIELD_ATTRIBUTE_TIMES(column)
#define PS_FIELD_SEGMENT_STATE(column) const bytea *column; /* packed, see segment_state.h; NULL: nothing is known */
#define PS_PROFILE_FIELD(column, kind, access, initial, member) PS_FIELD_##kind(column)

/* Scores that an event brought from another system. No event changes these columns otherwise, so they are written apart. */
typedef struct PsSeededScores
{
	const text *segment;		/* NULL, like the others: it stays as it is */
	Numeric		churn_risk_score;
	Numeric		lifetime_value;
} PsSeededScores;

#define PS_MAX_SEEDED_SEGMENT 200	/* bytes */

typedef struct PsProfile
{
	PS_PROFILE_COLUMNS(PS_PROFILE_FIELD,)
	bool		is_new;
	PsEventCount *event_counts;
	int			nevent_counts;
	int			event_counts_capacity;
	int			event_type_bytes;	/* length of their names in all */
	struct varlena *stored_counts;	/* event_counts as the row has it; NULL: it must be written anew */
	PsEventIds	event_ids;
	PsWindow	window;
	PsAttributes attributes;
	const PsSeededScores *seeded;	/* NULL: none */
} PsProfile;

/* The list as a table, for code that looks a column up by its name. */
typedef struct PsProfileColumn
{
	const char *name;
	PsProfileKind kind;
	bool		is_settable;
	const char *member;
	const char *unknown;		/* what the document shows of an empty text */
	Size		offset;			/* of its field; 0 for a kind with code of its own */
} PsProfileColumn;

#define PS_PROFILE_ONE(column, kind, access, initial, member) + 1
#define PS_PROFILE_NCOLUMNS (0 PS_PROFILE_COLUMNS(PS_PROFILE_ONE,))

extern const PsProfileColumn ps_profile_columns[PS_PROFILE_NCOLUMNS];

/* The column of that name, or the one with that member; NULL: there is none. */
extern const PsProfileColumn *ps_profile_find_column(const char *name);
extern const PsProfileColumn *ps_profile_find_member(const char *member, int len);

/* Columns of the table that a refresh of scores computes, and no event. */
#define PS_SCORE_SEGMENT "segment"
#define PS_SCORE_CHURN_RISK "churn_risk_score"
#define PS_SCORE_LIFETIME_VALUE "lifetime_value"

extern bool ps_profile_is_score(const char *name);

/* Sets a profile to what it is before its first event. */
extern void ps_profile_init(PsProfile *profile);

/* Adds a counter for a type that has none yet, in the order that jsonb has for keys. */
extern PsEventCount *ps_profile_add_count(PsProfile *profile, const char *event_type, int len);

/* The value of a counter. */
extern int64 ps_profile_count(const PsEventCount *count);

/* Sets the counter of a type, or adds to PS_OTHER_EVENTS when the profile has as many types as it may. */
extern void ps_profile_set_count(PsProfile *profile, const char *event_type, int len, int64 count);

/* Counts an event under its type, or under PS_OTHER_EVENTS when the profile has as many types as it may. */
extern void ps_profile_count_event(PsProfile *profile, const char *event_type, int len);

#endif							/* PS_PROFILE_H */
