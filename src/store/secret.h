/*
 * secret.h
 *	  The secret of the database. It is the key of stored hashes, and makes names of
 *	  channels that nobody can guess.
 */
#ifndef PS_SECRET_H
#define PS_SECRET_H

#include "core/keyed_hash.h"

/* names of channels, to which ps_secret_name() adds digits */
#define PS_UPDATES_CHANNEL "profile_updates"
#define PS_SEGMENTS_CHANNEL "segment_changes"

/* The key of stored hashes, which never changes. */
extern const PsHashKey *ps_secret_hash_key(void);

/* The name with 16 secret hexadecimal digits added: listening on a channel needs no right, so that its name must be secret. */
extern char *ps_secret_name(const char *name);

#endif							/* PS_SECRET_H */
