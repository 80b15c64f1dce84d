/*
 * document.h
 *	  Profiles and events as jsonb, which functions of users get as arguments; and
 *	  what they return, from which the profile takes what they changed.
 */
#ifndef PS_DOCUMENT_H
#define PS_DOCUMENT_H

#include "core/event.h"
#include "core/profile.h"
#include "utils/jsonb.h"

#define PS_CUSTOMER_ID_MEMBER "customerId"

/* The document of a profile as get_profile() shows it, but without windowed metrics and scores. */
extern Jsonb *ps_document_of_profile(const PsProfile *profile, const char *customer_id);

/* A text of a column as documents show it, which have a default of their own for an empty one. */
extern JsonbValue ps_document_text(const PsProfileColumn *column, const char *content, int len);

/* The value of a field that holds a text, a number or a time, as documents show it. */
extern JsonbValue ps_document_value(const PsProfileColumn *column, const char *field);

/* The event as a profile event. */
extern Jsonb *ps_document_of_event(const PsEvent *event);

/*
 * Applies to the profile what a function changed in its document: members that
 * differ, and attributes one by one, where null removes one. Returns NULL, or what
 * the function did wrong, as the end of a sentence that begins with its name.
 */
extern const char *ps_document_take(PsProfile *profile, const Jsonb *before, const Jsonb *after);

/* Makes a profile of a document that ps_document_of_profile() might have made; other members are ignored. Returns likewise. */
extern const char *ps_document_read(const Jsonb *document, PsProfile *profile, char **customer_id);

#endif							/* PS_DOCUMENT_H */
