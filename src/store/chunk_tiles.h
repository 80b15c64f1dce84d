/*
 * chunk_tiles.h
 *	  The tiles of chunks that are about to be added.
 */
#ifndef PS_CHUNK_TILES_H
#define PS_CHUNK_TILES_H

#include "core/tile.h"

/* A chunk, and the tile that it carries. */
typedef struct PsTiledChunk
{
	const PsChunk *chunk;
	int64		span;			/* how many chunks the tile covers; 1: there is none */
	int			run;			/* index of the first chunk of the customer and series, of which all are in a row */
	PsChunk		tile;			/* its sums and times */
} PsTiledChunk;

/*
 * Sorts chunks by customer, series and number, and makes their tiles, of chunks that
 * are among them or were added before. The caller holds the customers' locks.
 */
extern void ps_chunk_tiles_make(PsTiledChunk *chunks, int n);

#endif							/* PS_CHUNK_TILES_H */
