/*
 * tile.h
 *	  Which chunks of a series carry tiles, and what these cover. Pure arithmetic of
 *	  chunk numbers, which begin at 1 and have no gaps.
 *
 *	  tile		the sums of the last 16 chunks up to the one that carries it, whose number
 *				is a multiple of 16; of the last 256, where it is one of 256; and so on.
 *				A chunk with another number carries none
 *	  parts		the fewest chunks that, with their tiles, cover some chunks in a row: 0x2F0
 *				to 0x210 and 0x2FF to 0x2F1 cover what the tile of 0x300 does, but for its
 *				own chunk
 */
#ifndef PS_TILE_H
#define PS_TILE_H

#include "core/window.h"

#define PS_TILE_BASE 16
#define PS_TILE_MAX_PARTS 240	/* 15 for each of the 16 digits of a number to this base */

/* How many chunks the tile of a chunk covers; 1: it has no tile. */
extern int64 ps_tile_span(int64 chunk_no);

/* The parts that cover what a tile covers, but for its own chunk, in falling order. Returns how many. */
extern int	ps_tile_parts(int64 chunk_no, int64 *parts);

/* The parts that cover the chunks from 1 to a number. */
extern int	ps_tile_cover(int64 chunk_no, int64 *parts);

/* Adds count, sum, least and greatest value and the times of more samples to those of others. */
extern void ps_tile_add(PsChunk *sums, const PsChunk *more);

#endif							/* PS_TILE_H */
