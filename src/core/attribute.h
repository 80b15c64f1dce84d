/*
 * attribute.h
 *	  Attributes: values of a profile that have no column of their own. They are
 *	  in materialized_profiles.attributes; attribute maps and handlers in SQL change
 *	  them.
 */
#ifndef PS_ATTRIBUTE_H
#define PS_ATTRIBUTE_H

#include "core/profile.h"
#include "core/value.h"

#define PS_MAX_ATTRIBUTES 1000	/* of one profile */
#define PS_MAX_ATTRIBUTES_BYTES (256 * 1024)	/* size of their jsonb */

/* An attribute's value, jbvNull when there is none. */
extern JsonbValue ps_attribute_get(PsProfile *profile, const char *name, int len);

/* Sets an attribute; jbvNull removes it. Name and value must live as long as the profile. */
extern void ps_attribute_set(PsProfile *profile, const char *name, int len, const JsonbValue *value);

/* For operation latest: notes that an event of this time sets the attribute. False when a later event did before. */
extern bool ps_attribute_make_latest(PsProfile *profile, const char *name, int len, TimestampTz at);

/*
 * Calls take() with the old value of each attribute that has changed since the last call,
 * or since the profile was loaded; jbvNull: there was none.
 */
extern void ps_attribute_changes(PsProfile *profile, void (*take) (void *arg, const char *name, int len, const JsonbValue *old), void *arg);

/* What the row stores: all attributes, and the times that ps_attribute_make_latest() noted, NULL when there are none. */
extern struct varlena *ps_attributes_jsonb(const PsProfile *profile);
extern struct varlena *ps_attribute_times_jsonb(const PsProfile *profile);

#endif							/* PS_ATTRIBUTE_H */
