/*
 * plain_text.h
 *	  Finds the first byte that a JSON string cannot have as it is, eight bytes at a time.
 */
#ifndef PS_PLAIN_TEXT_H
#define PS_PLAIN_TEXT_H

#include "postgres.h"

#define PS_EACH_BYTE(value) (UINT64CONST(0x0101010101010101) * (value))

/* Whether any of eight bytes is less than a limit of at most 128. */
static inline bool
ps_any_byte_less(uint64 bytes, uint8 limit)
{
	return ((bytes - PS_EACH_BYTE(limit)) & ~bytes & PS_EACH_BYTE(0x80)) != 0;
}

/* Whether a byte ends or escapes a JSON string, or is a control character. */
static inline bool
ps_is_plain(unsigned char byte)
{
	return byte >= ' ' && byte != '"' && byte != '\\';
}

/* How many bytes stand before the first quote, backslash or control character; len: there is none. */
static inline int
ps_plain_len(const char *text, int len)
{
	int			at = 0;

	for (; at + 8 <= len; at += 8)
	{
		uint64		bytes;

		memcpy(&bytes, text +at, 8);
		if (ps_any_byte_less(bytes, ' ') || ps_any_byte_less(bytes ^ PS_EACH_BYTE('"'), 1) || ps_any_byte_less(bytes ^ PS_EACH_BYTE('\\'), 1))
			break;
	}
	while (at < len && ps_is_plain(text[at]))
		at++;
	return at;
}

#endif							/* PS_PLAIN_TEXT_H */
