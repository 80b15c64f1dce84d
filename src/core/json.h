/*
 * json.h
 *	  Reads some members of a JSON object. No bytes make it raise an ERROR.
 */
#ifndef PS_JSON_H
#define PS_JSON_H

#include "core/event.h"

#define PS_JSON_MAX_DEPTH 64
#define PS_JSON_MAX_NUMBER_LEN 400
#define PS_JSON_MAX_EXPONENT 308

typedef struct PsJsonReader
{
	PsField    *members;		/* the wanted ones, by name; those that are absent stay unchanged */
	int			nmembers;
	int			expanded;		/* index of the member whose fields are wanted too, or: */
#define PS_JSON_NO_MEMBER (-1)	/* no member's fields */
#define PS_JSON_ROOT (-2)		/* the fields of the object itself; nmembers is 0 */
	PsField    *fields;			/* fields of the expanded member, if it is an object */
	int			nfields;
} PsJsonReader;

/* The literal of a number d1.d2 d3 … × 10^exponent, whose first significant digit is d1. */
typedef struct PsJsonNumber
{
	bool		negative;
	const char *digits;			/* begins at the first significant digit; a point may stand among them */
	int			ndigits;		/* significant digits, without zeros at the end; 0: the number is zero */
	int			exponent;		/* power of ten of the first significant digit; of a zero what follows its e */
	int			scale;			/* digits written behind the point */
} PsJsonNumber;

/* What ps_json_read() returns for valid JSON that is not an object. */
extern const char ps_json_not_object[];

/* Reads a value into the reader; returns NULL, or why it cannot be read. */
extern const char *ps_json_read(const char *value, int len, PsJsonReader *reader);

/* Parses the literal text of a JSON number. */
extern PsJsonNumber ps_json_number(const char *text);

/* Reads a literal as a whole number of at most so many digits, without a sign; false when it is none. 1.5e1 is one. */
extern bool ps_json_whole_number(const char *text, int max_digits, int64 *result);

#endif							/* PS_JSON_H */
