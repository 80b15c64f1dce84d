/*
 * json.h
 *	  Reading a JSON object of which a few members matter, without an ERROR for
 *	  anything the bytes hold.
 */
#ifndef PS_JSON_H
#define PS_JSON_H

#include "core/event.h"

#define PS_JSON_MAX_DEPTH 64
#define PS_JSON_MAX_NUMBER_LEN 400
#define PS_JSON_MAX_EXPONENT 308

typedef struct PsJsonReader
{
	PsField    *members;		/* wanted, by name; absent ones stay as they are */
	int			nmembers;
	int			expanded;		/* which member is taken apart when it is an object; or one of these: */
#define PS_JSON_NO_MEMBER (-1)
#define PS_JSON_ROOT (-2)		/* the object itself; then there are no members */
	PsField    *fields;			/* its members */
	int			nfields;
} PsJsonReader;

/* A number's literal: value = 0.d1 d2 … × 10^(exponent + 1). */
typedef struct PsJsonNumber
{
	bool		negative;
	const char *digits;			/* from the first significant one; a point may stand between */
	int			ndigits;		/* significant ones, so 0 for a zero */
	int			exponent;		/* of the first significant digit */
} PsJsonNumber;

/* The reason for valid JSON that is not an object. */
extern const char ps_json_not_object[];

/* Reads a value into the reader and returns NULL, or returns why it cannot. */
extern const char *ps_json_read(const char *value, int len, PsJsonReader *reader);

/* Takes the literal text of a JSON number apart. */
extern PsJsonNumber ps_json_number(const char *text);

#endif							/* PS_JSON_H */
