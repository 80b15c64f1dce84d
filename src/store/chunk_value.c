/*
 * chunk_value.c
 *	  Computes values of sealed chunks, from their greatest tiles down. A tile that is
 *	  wholly inside the window is added, and one outside is not. Of a tile that crosses an
 *	  edge of the window, the tiles or chunks that it sums are read next. So the number of
 *	  rows grows with the logarithm of the number of chunks, if samples come about in
 *	  order of time.
 *
 *	  A chunk covers a span of time, not a place in an order. Late samples make spans
 *	  overlap, and more of them cross an edge, but the value stays exact.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/tile.h"
#include "settings.h"
#include "store/chunk_value.h"
#include "store/plan.h"
#include "store/rebuild_schema.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define STEP_CHUNKS 1024		/* samples that all count are read so many chunks at a time, so that they need not all
								 * be in memory */

/* OFFSET keeps the look-up by number as it is: by the statistics of a new table, reading all chunks of a series costs the same */
#define SELECT_NODES(schema) \
	"SELECT c.chunk_no, c.from_at, c.to_at, c.count, c.sum, c.min, c.max, c.samples," \
	" c.tile_from_at, c.tile_to_at, c.tile_count, c.tile_sum, c.tile_min, c.tile_max" \
	" FROM ROWS FROM (" PS_PLAN_ARRAYS ") AS k(first_no, last_no) CROSS JOIN LATERAL (SELECT * FROM " schema ".window_chunks x" \
	" WHERE x.customer_id = $1 AND x.metric = $2 AND x.chunk_no BETWEEN k.first_no AND k.last_no OFFSET 0) c"

#define NODES_ARGS 4, {TEXTOID, TEXTOID, INT8ARRAYOID, INT8ARRAYOID},.first_array = 3

static PsPlan nodes_plan = {SELECT_NODES(PS_INTERNAL_SCHEMA), NODES_ARGS};
static PsPlan rebuild_nodes_plan = {SELECT_NODES(PS_REBUILD_SCHEMA), NODES_ARGS};

static const Oid node_types[] = {
	INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, NUMERICOID, NUMERICOID, NUMERICOID, BYTEAOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, NUMERICOID, NUMERICOID, NUMERICOID
};

/* A chunk that was read, with the tile that it carries. */
typedef struct ChunkNode
{
	PsChunk		chunk;			/* samples NULL: they were folded */
	PsChunk		tile;			/* without a tile the chunk again; one that was not made may cover any time */
} ChunkNode;

/* One value that is computed. */
typedef struct TileDescent
{
	PsPlan	   *plan;
	const char *customer_id;
	Datum		args[4];
	PsWindowValue *value;
	MemoryContext step_context; /* of what one step reads, when its samples are taken at once; NULL: they are kept */
	int64	   *next;			/* numbers of the chunks to read next */
	int			nnext;
	int			capacity;
	ChunkNode  *edges;			/* chunks of which the samples count */
	int			nedges;
	int			edge_capacity;
} TileDescent;

/* Whether the sums are those of samples that all lie in the window, and are enough. */
static bool
is_whole(const TileDescent *descent, const PsChunk *chunk)
{
	return ps_aggregate_takes_sums(descent->value->aggregate) &&
		chunk->from_at >= descent->value->from_at && chunk->to_at <= descent->value->to_at;
}

static bool
overlaps_window(const TileDescent *descent, const PsChunk *chunk)
{
	return chunk->to_at >= descent->value->from_at && chunk->from_at <= descent->value->to_at;
}

/* Reads times and sums from the columns that begin with these. */
static void
get_sums(PsChunk *chunk, const Datum *values)
{
	chunk->from_at = DatumGetTimestampTz(values[0]);
	chunk->to_at = DatumGetTimestampTz(values[1]);
	chunk->count = DatumGetInt64(values[2]);
	chunk->sum = DatumGetNumeric(values[3]);
	chunk->min = DatumGetNumeric(values[4]);
	chunk->max = DatumGetNumeric(values[5]);
}

static void
get_node(uint64 row, ChunkNode *node)
{
	Datum		values[lengthof(node_types)];
	bool		nulls[lengthof(node_types)];

	heap_deform_tuple(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, values, nulls);
	memset(node, 0, sizeof(ChunkNode));
	node->chunk.chunk_no = DatumGetInt64(values[0]);
	get_sums(&node->chunk, values + 1);
	node->chunk.samples = nulls[7] ? NULL : DatumGetByteaPP(values[7]);
	node->tile = node->chunk;
	if (!nulls[8])
	{
		ps_plan_check_filled(nulls + 8, lengthof(node_types) - 8, "the tile of a row of table window_chunks");
		get_sums(&node->tile, values + 8);
	}
	else if (ps_tile_span(node->chunk.chunk_no) > 1)
	{
		node->tile.from_at = DT_NOBEGIN;
		node->tile.to_at = DT_NOEND;
	}
}

/* Whether all samples of a chunk are on the right side of the end of the window that first or last asks about. */
static bool
is_inside(const PsWindowValue *value, const PsChunk *chunk)
{
	return value->aggregate == PS_AGGREGATE_FIRST ? chunk->from_at >= value->from_at : chunk->to_at <= value->to_at;
}

/* Whether a chunk has a sample before the first one, or after the last one, of another. */
static bool
goes_further(const PsWindowValue *value, const PsChunk *a, const PsChunk *b)
{
	if (value->aggregate == PS_AGGREGATE_FIRST)
		return a->from_at < b->from_at || (a->from_at == b->from_at && a->chunk_no < b->chunk_no);
	return a->to_at > b->to_at || (a->to_at == b->to_at && a->chunk_no > b->chunk_no);
}

/*
 * Keeps those that may hold the first or last sample of the window: the one that goes furthest in it, and all that
 * go beyond its end. Other aggregates need them all.
 */
static int
keep_outermost(ChunkNode *nodes, int n, const PsWindowValue *value)
{
	const PsChunk *outermost = NULL;
	int64		chunk_no;
	int			kept = 0;

	if (!ps_aggregate_takes_outermost(value->aggregate))
		return n;
	for (int i = 0; i < n; i++)
	{
		const PsChunk *tile = &nodes[i].tile;

		if (is_inside(value, tile) && (outermost == NULL || goes_further(value, tile, outermost)))
			outermost = tile;
	}
	chunk_no = outermost == NULL ? 0 : outermost->chunk_no;
	for (int i = 0; i < n; i++)
		if (!is_inside(value, &nodes[i].tile) || nodes[i].tile.chunk_no == chunk_no)
			nodes[kept++] = nodes[i];
	return kept;
}

/* Adds the samples of a chunk to the value. */
static void
add_samples(TileDescent *descent, const PsChunk *chunk)
{
	if (chunk->samples == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("exact samples of customer \"%s\" for this moment were folded into daily buckets", descent->customer_id),
				 errhint("Ask for a later as_of, or read daily values with metric_trend().")));
	ps_window_value_add_samples(descent->value, VARDATA_ANY(chunk->samples), VARSIZE_ANY_EXHDR(chunk->samples));
}

/* Notes a chunk whose samples count. */
static void
add_edge(TileDescent *descent, const PsChunk *chunk)
{
	if (descent->nedges == descent->edge_capacity)
	{
		descent->edge_capacity = Max(16, 2 * descent->edge_capacity);
		descent->edges = descent->edges == NULL ? palloc(descent->edge_capacity * sizeof(ChunkNode)) :
			repalloc_huge(descent->edges, descent->edge_capacity * sizeof(ChunkNode));
	}
	descent->edges[descent->nedges++] = (ChunkNode)
	{
		*chunk, *chunk
	};
}

/* Takes what a chunk and its tile have of the window; notes the parts of the tile where it crosses an edge. */
static void
take_node(TileDescent *descent, const ChunkNode *node)
{
	if (is_whole(descent, &node->tile))
	{
		ps_window_value_add(descent->value, &node->tile);
		return;
	}
	if (is_whole(descent, &node->chunk))
		ps_window_value_add(descent->value, &node->chunk);
	else if (overlaps_window(descent, &node->chunk))
	{
		if (descent->step_context != NULL)
			add_samples(descent, &node->chunk);
		else
			add_edge(descent, &node->chunk);
	}
	if (descent->nnext + PS_TILE_MAX_PARTS > descent->capacity)
	{
		descent->capacity = 2 * (descent->nnext + PS_TILE_MAX_PARTS);
		descent->next = repalloc_huge(descent->next, descent->capacity * sizeof(int64));
	}
	descent->nnext += ps_tile_parts(node->chunk.chunk_no, descent->next + descent->nnext);
}

/* Makes arguments of the last n numbers of the chunks to read next: numbers in a row are one range. */
static void
make_ranges(TileDescent *descent, int n)
{
	const int64 *next = descent->next + descent->nnext - n;
	PsColumn	first;
	PsColumn	last;

	ps_column_init(&first, INT8OID, n);
	ps_column_init(&last, INT8OID, n);
	for (int i = 0; i < n; i++)
	{
		/* they fall */
		if (i == 0 || next[i] != next[i - 1] - 1)
			ps_column_add(&last, Int64GetDatum(next[i]));
		if (i == n - 1 || next[i] != next[i + 1] + 1)
			ps_column_add(&first, Int64GetDatum(next[i]));
	}
	descent->args[2] = ps_column_array(&first);
	descent->args[3] = ps_column_array(&last);
	descent->nnext -= n;
}

/* Reads the chunks of one step into nodes; returns how many have something in the window. */
static int
read_nodes(TileDescent *descent, int n, ChunkNode **nodes)
{
	uint64		found;
	int			overlapping = 0;

	make_ranges(descent, n);
	found = ps_plan_read(descent->plan, descent->args);
	ps_plan_check_types(node_types, lengthof(node_types));
	*nodes = MemoryContextAllocHuge(CurrentMemoryContext, Max(found, 1) * sizeof(ChunkNode));
	for (uint64 i = 0; i < found; i++)
	{
		get_node(i, &(*nodes)[overlapping]);
		if (overlaps_window(descent, &(*nodes)[overlapping].tile))
			overlapping++;
	}
	return overlapping;
}

/* Reads the chunks of one step, and takes what is in them. */
static void
read_step(TileDescent *descent)
{
	ChunkNode  *nodes;
	int			n = read_nodes(descent, descent->nnext, &nodes);

	n = keep_outermost(nodes, n, descent->value);
	for (int i = 0; i < n; i++)
		take_node(descent, &nodes[i]);
}

/* The same where all samples count in any order: the last chunks to be read come first, and are forgotten. */
static void
read_small_step(TileDescent *descent)
{
	MemoryContext caller = MemoryContextSwitchTo(descent->step_context);
	ChunkNode  *nodes;
	int			n = read_nodes(descent, Min(descent->nnext, STEP_CHUNKS), &nodes);

	MemoryContextSwitchTo(caller);
	for (int i = 0; i < n; i++)
		take_node(descent, &nodes[i]);
	SPI_freetuptable(SPI_tuptable);
	MemoryContextReset(descent->step_context);
}

static int
compare_edges(const void *a, const void *b)
{
	int64		x = ((const ChunkNode *) a)->chunk.chunk_no;
	int64		y = ((const ChunkNode *) b)->chunk.chunk_no;

	return x < y ? -1 : x > y;
}

/* Adds the samples of chunks at the edges, in the order of their arrival: of samples with one time the last one counts. */
static void
add_edges(TileDescent *descent)
{
	descent->nedges = keep_outermost(descent->edges, descent->nedges, descent->value);
	if (descent->nedges > 1)
		qsort(descent->edges, descent->nedges, sizeof(ChunkNode), compare_edges);
	for (int i = 0; i < descent->nedges; i++)
		add_samples(descent, &descent->edges[i].chunk);
}

void
ps_chunks_value(bool in_rebuild, const char *customer_id, const char *series, int64 nchunks, PsWindowValue *value)
{
	TileDescent descent = {
		.plan = in_rebuild ? &rebuild_nodes_plan : &nodes_plan,.customer_id = customer_id,.value = value,
		.args = {CStringGetTextDatum(customer_id), CStringGetTextDatum(series)},
		.capacity = PS_TILE_MAX_PARTS
	};

	descent.next = palloc(descent.capacity * sizeof(int64));
	descent.nnext = ps_tile_cover(nchunks, descent.next);
	if (ps_aggregate_takes_all(value->aggregate))
	{
		descent.step_context = AllocSetContextCreate(CurrentMemoryContext, "chunks of a value", ALLOCSET_DEFAULT_SIZES);
		while (descent.nnext > 0)
			read_small_step(&descent);
		MemoryContextDelete(descent.step_context);
		return;
	}
	while (descent.nnext > 0)
		read_step(&descent);
	add_edges(&descent);
}
