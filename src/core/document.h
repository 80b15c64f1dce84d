/*
 * document.h
 *	  What functions of users see and return: a profile and an event as jsonb, and
 *	  the changes that a function made to the first.
 */
#ifndef PS_DOCUMENT_H
#define PS_DOCUMENT_H

#include "core/event.h"
#include "core/profile.h"
#include "utils/jsonb.h"

/* The profile as events change it: what get_profile() shows without windows and scores. */
extern Jsonb *ps_document_of_profile(const PsProfile *profile, const char *customer_id);

/* The event in its canonical form. */
extern Jsonb *ps_document_of_event(const PsEvent *event);

/*
 * Changes the profile by what a function made of its document: members that differ,
 * attributes one by one, of which null removes one. Says what the function did
 * wrong, as the end of a sentence that begins with its name, or NULL. What the profile gets is allocated.
 */
extern const char *ps_document_take(PsProfile *profile, const Jsonb *before, const Jsonb *after);

/* Makes a profile of a document, as far as it has members that ps_document_of_profile() makes; likewise. */
extern const char *ps_document_read(const Jsonb *document, PsProfile *profile, char **customer_id);

#endif							/* PS_DOCUMENT_H */
