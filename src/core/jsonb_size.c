/*
 * jsonb_size.c
 *	  Bounds for jsonb that code of users has made, before its text is made.
 */
#include "postgres.h"

#include "core/json.h"
#include "core/jsonb_size.h"
#include "utils/fmgrprotos.h"

#define MADE_BYTES 65536
#define MADE_TIMES 64			/* the bytes of what it is made of */

int64
ps_jsonb_made_bytes(int bytes)
{
	return MADE_BYTES + MADE_TIMES * (int64) bytes;
}

static int64
number_bytes(Numeric number)
{
	char	   *text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
	int64		bytes = strlen(text);

	pfree(text);
	return bytes;
}

/* Bytes of a scalar's text, without its escapes. */
static int64
text_bytes(const JsonbValue *value)
{
	if (value->type == jbvString)
		return value->val.string.len;
	return value->type == jbvNumeric ? number_bytes(value->val.numeric) : 4;
}

bool
ps_jsonb_is_longer(Jsonb *jsonb, int64 max)
{
	JsonbIterator *it = JsonbIteratorInit(&jsonb->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	int64		bytes = 0;

	while (bytes <= max && (token = JsonbIteratorNext(&it, &value, false)) != WJB_DONE)
		bytes += 2 + (token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM ? text_bytes(&value) : 0);
	return bytes > max;
}

bool
ps_jsonb_numbers_fit(const JsonbValue *value)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	part = *value;

	if (value->type != jbvBinary)
		return value->type != jbvNumeric || number_bytes(value->val.numeric) <= PS_JSON_MAX_NUMBER_LEN + PS_JSON_MAX_EXPONENT;
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &part, false)) != WJB_DONE)
		if ((token == WJB_VALUE || token == WJB_ELEM) && !ps_jsonb_numbers_fit(&part))
			return false;
	return true;
}
