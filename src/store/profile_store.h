/*
 * profile_store.h
 *	  Rows of materialized_profiles, read and written a batch at a time by
 *	  callers who hold the customers' locks.
 */
#ifndef PS_PROFILE_STORE_H
#define PS_PROFILE_STORE_H

#include "core/profile.h"

typedef struct PsStoredProfile
{
	const char *customer_id;
	PsProfile	profile;
} PsStoredProfile;

/* Loads each customer's profile, or initialises it where there is no row. */
extern void ps_profiles_load(PsStoredProfile **profiles, int n);

/* Writes them back: new ones inserted, the others updated. */
extern void ps_profiles_save(PsStoredProfile **profiles, int n);


/* Customers with an open chunk of nothing but expired samples; at most limit, not loaded. */
extern int	ps_profiles_find_expired(TimestampTz now, int limit, PsStoredProfile **profiles);

#endif							/* PS_PROFILE_STORE_H */
