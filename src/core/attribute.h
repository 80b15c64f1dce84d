/*
 * attribute.h
 *	  Attributes: values of a profile that no column is for, kept in
 *	  materialized_profiles.attributes. Changed by maps and by handlers in SQL.
 */
#ifndef PS_ATTRIBUTE_H
#define PS_ATTRIBUTE_H

#include "core/profile.h"
#include "core/value.h"

#define PS_MAX_ATTRIBUTES 1000	/* of a profile */
#define PS_MAX_ATTRIBUTES_BYTES (256 * 1024)	/* of all of them together */

/* An attribute's value, jbvNull when there is none. */
extern JsonbValue ps_attribute_get(PsProfile *profile, const char *name, int len);

/* Sets an attribute, or removes it (jbvNull); name and value must live as long as the profile. */
extern void ps_attribute_set(PsProfile *profile, const char *name, int len, const JsonbValue *value);

/* Whether nothing later than this was latest; then it is. */
extern bool ps_attribute_make_latest(PsProfile *profile, const char *name, int len, TimestampTz at);

/* All attributes as jsonb, and the times of those that have one (NULL: none has), as the row keeps them. */
extern struct varlena *ps_attributes_jsonb(const PsProfile *profile);
extern struct varlena *ps_attribute_times_jsonb(const PsProfile *profile);

#endif							/* PS_ATTRIBUTE_H */
