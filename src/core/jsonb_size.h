/*
 * jsonb_size.h
 *	  How long the text of a jsonb would be. Code of users makes such jsonb, and a number
 *	  of ten bytes may have a text of 130,000.
 */
#ifndef PS_JSONB_SIZE_H
#define PS_JSONB_SIZE_H

#include "postgres.h"

#include "utils/jsonb.h"

/* So long a text may code of users make of a message or an event of so many bytes. */
extern int64 ps_jsonb_made_bytes(int bytes);

/* Whether the text would be longer. It is not made to find out. */
extern bool ps_jsonb_is_longer(Jsonb *jsonb, int64 max);

/* Whether no number of a value is longer than one of an event can be. */
extern bool ps_jsonb_numbers_fit(const JsonbValue *value);

#endif							/* PS_JSONB_SIZE_H */
