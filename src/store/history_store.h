/*
 * history_store.h
 *	  Rows of profile_history. Every call needs SPI, unless it says otherwise.
 */
#ifndef PS_HISTORY_STORE_H
#define PS_HISTORY_STORE_H

#include "core/history.h"
#include "nodes/pg_list.h"

/* What an event changed of a customer. */
typedef struct PsHistoryRow
{
	const char *customer_id;
	TimestampTz changed_at;		/* the old values held until this moment, exclusive */
	int64		version;		/* of the profile with the event */
	Jsonb	   *old;			/* old values by key */
	struct PsHistoryRow *next;
} PsHistoryRow;

/* Adds rows, and partitions for them where there are none. */
extern void ps_history_add(const PsHistoryRow *first);

/*
 * Keeps the scores that customers have, before an event replaces them, where they are tracked
 * and the event is later than a moment. A list of PsSeeded. Not in a rebuild, which leaves scores alone.
 */
extern void ps_history_keep_scores(const List *seeded, TimestampTz from);

/* The values that customers had at a moment, as far as they have changed since. */
typedef struct PsPast
{
	int			n;
	Datum	   *customer_ids;	/* sorted */
	Jsonb	  **values;			/* old values by key */
} PsPast;

/* Reads them with the caller's rights, for an array of ids. Connects to SPI by itself. */
extern void ps_past_read(PsPast *past, Datum customer_ids, TimestampTz at);

/* The old values of a customer; NULL: nothing has changed since. */
extern const Jsonb *ps_past_find(const PsPast *past, const text *customer_id);

/* Removes all values but those of the given keys, and with all_attributes those of attributes. */
extern void ps_history_keep_only(Datum keys, bool all_attributes);

/* Adds the partitions that the history of a rebuild needs. */
extern void ps_history_cover_rebuild(void);

#endif							/* PS_HISTORY_STORE_H */
