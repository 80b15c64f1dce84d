/*
 * tile.c
 *	  Numbers of the chunks of which a tile is made, and their sums.
 */
#include "postgres.h"

#include "core/numeric_call.h"
#include "core/tile.h"

int64
ps_tile_span(int64 chunk_no)
{
	int64		span = 1;

	while (chunk_no > 0 && chunk_no % PS_TILE_BASE == 0)
	{
		chunk_no /= PS_TILE_BASE;
		span *= PS_TILE_BASE;
	}
	return span;
}

/* Adds the fewest chunks that cover those after a number up to another one. */
static int
cover_range(int64 after, int64 chunk_no, int64 *parts)
{
	int			n = 0;

	while (chunk_no > after)
	{
		parts[n++] = chunk_no;
		chunk_no -= ps_tile_span(chunk_no);
	}
	return n;
}

int
ps_tile_parts(int64 chunk_no, int64 *parts)
{
	return cover_range(chunk_no - ps_tile_span(chunk_no), chunk_no - 1, parts);
}

int
ps_tile_cover(int64 chunk_no, int64 *parts)
{
	return cover_range(0, chunk_no, parts);
}

void
ps_tile_add(PsChunk *sums, const PsChunk *more)
{
	sums->from_at = Min(sums->from_at, more->from_at);
	sums->to_at = Max(sums->to_at, more->to_at);
	sums->count += more->count;
	sums->sum = ps_numeric_call(numeric_add, sums->sum, more->sum);
	sums->min = ps_numeric_call(numeric_smaller, sums->min, more->min);
	sums->max = ps_numeric_call(numeric_larger, sums->max, more->max);
}
