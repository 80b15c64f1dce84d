/*
 * plain_text.h
 *	  Finds the first byte that a JSON string cannot have as it is, eight bytes at a time.
 */
#ifndef PS_PLAIN_TEXT_H
#define PS_PLAIN_TEXT_H

#include "postgres.h"

#include "port/pg_bitutils.h"

#define PS_EACH_BYTE(value) (UINT64CONST(0x0101010101010101) * (value))

/* Sets the upper bit of bytes less than a limit of at most 128. Of those above the lowest such byte it may be wrong. */
static inline uint64
ps_bytes_less(uint64 bytes, uint8 limit)
{
	return (bytes - PS_EACH_BYTE(limit)) & ~bytes & PS_EACH_BYTE(0x80);
}

/* The same for quotes, backslashes and control characters; 0: there is none. */
static inline uint64
ps_not_plain(const char *text)
{
	uint64		bytes;

	memcpy(&bytes, text, 8);
	return ps_bytes_less(bytes, ' ') | ps_bytes_less(bytes ^ PS_EACH_BYTE('"'), 1) | ps_bytes_less(bytes ^ PS_EACH_BYTE('\\'), 1);
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
	uint64		found = 0;
	int			at = 0;

	while (at + 8 <= len && (found = ps_not_plain(text +at)) == 0)
		at += 8;
#ifndef WORDS_BIGENDIAN
	if (found != 0)
		return at + pg_rightmost_one_pos64(found) / 8;
#endif
	/* the last bytes once more with those before them, which are plain */
	if (found == 0 && at > 0 && at < len && ps_not_plain(text +len - 8) == 0)
		return len;
	while (at < len && ps_is_plain(text[at]))
		at++;
	return at;
}

#endif							/* PS_PLAIN_TEXT_H */
