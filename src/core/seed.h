/*
 * seed.h
 *	  The event profile.seeded. Its payload is the document of a profile that another
 *	  system kept, and the profile becomes what the document says.
 */
#ifndef PS_SEED_H
#define PS_SEED_H

#include "core/event.h"
#include "core/profile.h"

#define PS_SEEDED "profile.seeded"

/* Handler of the event: reads the document, and applies it. */
extern PsReject *ps_seed_read(const PsEvent *event, const void **content);
extern PsChunk *ps_seed_apply(PsProfile *profile, const PsEvent *event, const void *content);

#endif							/* PS_SEED_H */
