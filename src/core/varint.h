/*
 * varint.h
 *	  Numbers of few bytes for small values: seven bits a byte, the lowest first; all
 *	  bytes but the last have the eighth bit. Protocol Buffers has them too.
 */
#ifndef PS_VARINT_H
#define PS_VARINT_H

#include "postgres.h"

#define PS_VARINT_BYTES 10		/* at most */

/* Writes a number and returns the place behind it. */
static inline char *
ps_varint_write(char *out, uint64 number)
{
	while (number >= 0x80)
	{
		*out++ = (char) (number | 0x80);
		number >>= 7;
	}
	*out++ = (char) number;
	return out;
}

/* Reads a number and moves *next behind it; false when the bytes end before. */
static inline bool
ps_varint_read(const char **next, const char *end, uint64 *number)
{
	*number = 0;
	for (int shift = 0; *next < end && shift < 64; shift += 7)
	{
		unsigned char byte = (unsigned char) *(*next)++;

		*number |= (uint64) (byte & 0x7f) << shift;
		if (byte < 0x80)
			return true;
	}
	return false;
}

/* Maps numbers of either sign to small ones: 0, -1, 1, -2, 2, … to 0, 1, 2, 3, 4, … */
static inline uint64
ps_zigzag(int64 number)
{
	return ((uint64) number << 1) ^ (uint64) (number >> 63);
}

static inline int64
ps_unzigzag(uint64 number)
{
	return (int64) (number >> 1) ^ -(int64) (number & 1);
}

#endif							/* PS_VARINT_H */
