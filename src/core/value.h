/*
 * value.h
 *	  Values of payloads and attributes, of five types.
 */
#ifndef PS_VALUE_H
#define PS_VALUE_H

#include "core/event.h"
#include "utils/jsonb.h"

typedef enum PsValueType
{
	PS_VALUE_TEXT,
	PS_VALUE_NUMERIC,
	PS_VALUE_BOOLEAN,
	PS_VALUE_TIMESTAMP,			/* stored as ISO 8601 in UTC */
	PS_VALUE_JSONB				/* anything as it is; a number is read as PS_VALUE_NUMERIC */
} PsValueType;

#define PS_VALUE_TYPES 5

/* Names of the types in SQL. */
extern const char *const ps_value_type_names[PS_VALUE_TYPES];

/*
 * Reads a value of a type; jbvNull when the field is absent, null or empty. Returns
 * NULL, or a reject: "Processing error: <name> is not …".
 */
extern PsReject *ps_value_read(const PsField *field, PsValueType type, const char *name, JsonbValue *value);

/* The same for a number; NULL when the field is absent, null or empty. */
extern PsReject *ps_value_read_number(const PsField *field, const char *name, Numeric *number);

/* Whether two values are of one type and equal. */
extern bool ps_value_equal(const JsonbValue *a, const JsonbValue *b);

/* A field as it is. It comes from a JSON document, so that reading it again cannot fail. */
extern JsonbValue ps_value_of_field(const PsField *field);

extern JsonbValue ps_value_string(const char *text, int len);
extern JsonbValue ps_value_number(Numeric number);

/* A whole jsonb as a value of another one, which shares its bytes. */
extern JsonbValue ps_value_jsonb(Jsonb *jsonb);

#define PS_MAX_VALUE_BYTES 16384	/* longest text that a profile stores */

/* Returns a reject when a value is too long for a profile, else NULL. */
extern PsReject *ps_value_check_kept(const JsonbValue *value, const char *name);

#endif							/* PS_VALUE_H */
