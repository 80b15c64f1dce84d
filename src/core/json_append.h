/*
 * json_append.h
 *	  Appends parts of JSON to a text, for what is written with each event.
 */
#ifndef PS_JSON_APPEND_H
#define PS_JSON_APPEND_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"

/* appendBinaryStringInfo(), inline: of a literal the length is known, and it is copied without a call */
static inline void
ps_append(StringInfo json, const char *bytes, int len)
{
	if (json->len + len >= json->maxlen)
		enlargeStringInfo(json, len);
	memcpy(json->data + json->len, bytes, len);
	json->len += len;
	json->data[json->len] = '\0';
}

#define PS_APPEND_LITERAL(json, literal) ps_append(json, literal, sizeof(literal) - 1)

/* Appends a JSON string as escape_json() does, but quickly when there is nothing to escape. */
extern void ps_json_append_string(StringInfo json, const char *text);

/* Appends a timestamp as a JSON string. */
extern void ps_json_append_time(StringInfo json, TimestampTz at);

#endif							/* PS_JSON_APPEND_H */
