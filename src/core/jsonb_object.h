/*
 * jsonb_object.h
 *	  Writes jsonb objects that all have the same keys. jsonb of PostgreSQL takes keys
 *	  and values as they come, sorts them and then copies them: three times as long
 *	  as to write them in their places.
 */
#ifndef PS_JSONB_OBJECT_H
#define PS_JSONB_OBJECT_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

typedef struct PsJsonbObject
{
	StringInfoData buffer;
	int			npairs;
	int			nentries;		/* keys and values added so far */
	uint32		bytes;			/* of keys and values */
} PsJsonbObject;

/* The order that jsonb has for keys: by length, and then by bytes. */
extern int	ps_jsonb_compare_keys(const char *a, int a_len, const char *b, int b_len);

/* Begins an object of so many members. */
extern void ps_jsonb_object_begin(PsJsonbObject *object, int npairs);

/* Adds the next key, in the order of jsonb. All keys come before the values. */
extern void ps_jsonb_object_key(PsJsonbObject *object, const char *key, int len);

/* Begins another object with the keys of one that has no values yet. */
extern void ps_jsonb_object_copy(PsJsonbObject *object, const PsJsonbObject *begun);

/* Adds the value of the next key: a scalar, or jbvBinary, a whole jsonb. */
extern void ps_jsonb_object_add(PsJsonbObject *object, const JsonbValue *value);

/* Ends an object that has all values. */
extern Jsonb *ps_jsonb_object_end(PsJsonbObject *object);

#endif							/* PS_JSONB_OBJECT_H */
