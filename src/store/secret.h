/*
 * secret.h
 *	  The database's secret, and what is made of it: the key of hashes that are
 *	  stored, and names that nobody can guess.
 */
#ifndef PS_SECRET_H
#define PS_SECRET_H

#include "core/keyed_hash.h"

/* channels, whose names ps_secret_name() makes of these */
#define PS_UPDATES_CHANNEL "profile_updates"
#define PS_SEGMENTS_CHANNEL "segment_changes"

/* The key of hashes that are stored: it stays for the life of the database. */
extern const PsHashKey *ps_secret_hash_key(void);

/* A name with 16 hexadecimal digits behind it, which nobody knows who is not told. */
extern char *ps_secret_name(const char *name);

#endif							/* PS_SECRET_H */
