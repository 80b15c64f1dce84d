/*
 * profile_store.h
 *	  Rows of materialized_profiles, read and written a batch at a time by
 *	  callers who hold the customers' locks.
 */
#ifndef PS_PROFILE_STORE_H
#define PS_PROFILE_STORE_H

#include "access/htup.h"
#include "core/profile.h"
#include "store/profile_row.h"

#define PS_TABLE_COLUMNS (PS_ROW_COLUMNS + 4)	/* and segment, churn_risk_score, lifetime_value, scored_at */

typedef struct PsStoredProfile
{
	const char *customer_id;
	int			customer_id_len;
	uint32		hash;			/* hash of the customer id */
	PsProfile	profile;
	HeapTuple	row;			/* the row as it was loaded directly, else NULL */
	int			holder;			/* ps_lock_wait_holder() of the transaction that has locked the row; 0: none has */
	Datum		values[PS_TABLE_COLUMNS];	/* the values of that row */
	bool		nulls[PS_TABLE_COLUMNS];
} PsStoredProfile;

/* How many profiles should be loaded, changed and saved before the next ones are loaded. */
extern int	ps_profiles_at_once(void);

/* Loads each customer's profile, or initialises it where there is no row. */
extern void ps_profiles_load(PsStoredProfile **profiles, int n);

/* Checks the rows that seem to have a holder, of profiles that a statement loaded. Locks those that have none. */
extern void ps_profiles_find_free(PsStoredProfile **profiles, int n);

/* Writes them back: new ones inserted, the others updated. */
extern void ps_profiles_save(PsStoredProfile **profiles, int n);

/* Finds at most limit customers with an open chunk of which all samples are expired. Does not load them. */
extern int	ps_profiles_find_expired(TimestampTz now, int limit, PsStoredProfile **profiles);

/* The segments of profiles that were saved; NULL for a customer without a row. */
extern void ps_profiles_segments(const PsStoredProfile **profiles, int n, const char **segments);

#endif							/* PS_PROFILE_STORE_H */
