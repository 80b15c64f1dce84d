/*
 * secret.h
 *	  The keys of the database: one for the hashes of event ids, and one that makes
 *	  names of channels that nobody can guess.
 */
#ifndef PS_SECRET_H
#define PS_SECRET_H

#include "core/keyed_hash.h"

/* names of channels, to which ps_secret_name() adds digits */
#define PS_UPDATES_CHANNEL "profile_updates"
#define PS_SEGMENTS_CHANNEL "segment_changes"

/* The key of the hashes of event ids, read anew at each call. It goes into a dump with them. */
extern const PsHashKey *ps_event_id_key(void);

/* The name with 16 secret hexadecimal digits added: listening on a channel needs no right, so that its name must be secret. */
extern char *ps_secret_name(const char *name);

#endif							/* PS_SECRET_H */
