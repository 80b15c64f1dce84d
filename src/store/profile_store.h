/*
 * profile_store.h
 *	  Rows of materialized_profiles, read and written a batch at a time by
 *	  callers who hold the customers' locks.
 */
#ifndef PS_PROFILE_STORE_H
#define PS_PROFILE_STORE_H

#include "access/htup.h"
#include "core/profile.h"
#include "nodes/pg_list.h"
#include "store/profile_row.h"

typedef struct PsStoredProfile
{
	const char *customer_id;
	int			customer_id_len;
	uint32		hash;			/* hash of the customer id */
	PsProfile	profile;
	HeapTuple	row;			/* the row as it was loaded directly, else NULL */
	ItemPointerData place;		/* of a row that was inserted directly */
	int			holder;			/* ps_lock_wait_holder() of the transaction that has locked the row; 0: none has */
	Datum		values[PS_ROW_ALL_COLUMNS]; /* the values of the row, unless the profile is new */
	bool		nulls[PS_ROW_ALL_COLUMNS];
} PsStoredProfile;

/* The table, open for loading and saving within one command: nobody else's statement should run meanwhile. */
typedef struct PsProfileTable PsProfileTable;

/* Needs an active snapshot, which stays until the table is closed. */
extern PsProfileTable * ps_profiles_open(void);
extern void ps_profiles_close(PsProfileTable * table);

/* How many profiles should be loaded, changed and saved before the next ones are loaded. */
extern int	ps_profiles_at_once(const PsProfileTable * table);

/* Customers with neighbouring numbers have their rows on the same pages. All new customers have the same number. */
extern int64 ps_profiles_place(uint32 hash);

/* Loads each customer's profile, or initialises it where there is no row. */
extern void ps_profiles_load(PsProfileTable * table, PsStoredProfile **profiles, int n);

/* Checks the rows that seem to have a holder, of profiles that a statement loaded. Locks those that have none. */
extern void ps_profiles_find_free(PsStoredProfile **profiles, int n);

/* Writes them back: new ones inserted, the others updated. A profile may be saved once before the table is closed. */
extern void ps_profiles_save(PsProfileTable * table, PsStoredProfile **profiles, int n);

/* Finds at most limit customers with an open chunk of which all samples are expired. Does not load them. */
extern int	ps_profiles_find_expired(TimestampTz now, int limit, PsStoredProfile **profiles);

typedef struct PsSeeded
{
	const char *customer_id;
	PsSeededScores scores;
} PsSeeded;

/* Writes scores that events brought, a list of PsSeeded, after the table is closed. */
extern void ps_profiles_seed_scores(const List *seeded);

/* The segments of profiles that were saved; NULL for a customer without a row. */
extern void ps_profiles_segments(PsStoredProfile **profiles, int n, const char **segments);

#endif							/* PS_PROFILE_STORE_H */
