/*
 * json_plain.h
 *	  Reads what most events are, JSON without escapes, faster than the parser does.
 *	  core/json.c calls it, and asks the parser where it does not know.
 */
#ifndef PS_JSON_PLAIN_H
#define PS_JSON_PLAIN_H

#include "core/json.h"

/*
 * Reads a value that is valid UTF-8 without a backslash. Returns true if it has read an
 * object, with everything as the parser would have it but for fields of the same name,
 * which are all there. It returns false when it does not know: the value is no object, is
 * invalid, long or deeply nested, or has a number that may be out of range.
 */
extern bool ps_json_read_plain(const char *value, int len, PsJsonReader *reader);

/* Appends a field of the expanded member. */
extern PsField *ps_json_add_field(PsJsonReader *reader, const char *name);

#endif							/* PS_JSON_PLAIN_H */
