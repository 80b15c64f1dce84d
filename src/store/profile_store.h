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

#define PS_TABLE_COLUMNS (PS_ROW_COLUMNS + 4)	/* with those computed in batch */

typedef struct PsStoredProfile
{
	const char *customer_id;
	int			customer_id_len;
	uint32		hash;			/* any of the customer id; the same at each load */
	PsProfile	profile;
	HeapTuple	row;			/* as loaded by hand, else NULL */
	int			holder;			/* who keeps the row from being written, as of ps_lock_wait_holder(); 0: nobody */
	Datum		values[PS_TABLE_COLUMNS];	/* of that row */
	bool		nulls[PS_TABLE_COLUMNS];
} PsStoredProfile;

/* How many are best loaded, changed and saved before the next ones are loaded. */
extern int	ps_profiles_at_once(void);

/* Loads each customer's profile, or initialises it where there is no row. */
extern void ps_profiles_load(PsStoredProfile **profiles, int n);

/* Of profiles loaded by a statement, whose rows seem to have a keeper: takes that back where none has, and locks these rows. */
extern void ps_profiles_find_free(PsStoredProfile **profiles, int n);

/* Writes them back: new ones inserted, the others updated. */
extern void ps_profiles_save(PsStoredProfile **profiles, int n);

/* Customers with an open chunk of nothing but expired samples; at most limit, not loaded. */
extern int	ps_profiles_find_expired(TimestampTz now, int limit, PsStoredProfile **profiles);

/* The segments of profiles that were saved, as the table has them; NULL for one that is gone. */
extern void ps_profiles_segments(const PsStoredProfile **profiles, int n, const char **segments);

#endif							/* PS_PROFILE_STORE_H */
