/*
 * chunk_tiles.c
 *	  Makes tiles of chunks when they are sealed: with one SELECT for a whole batch, and
 *	  none when no chunk of it carries a tile.
 *
 *	  A tile is not made when a part of it is missing, because somebody has deleted
 *	  rows. Reading goes down to its parts then.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/chunk_tiles.h"
#include "store/plan.h"
#include "utils/timestamp.h"

#define NPARTS_ARGS 4

/* sums of the parts that each tile has in the table; a part whose own tile is missing does not count */
static PsPlan parts_plan = {
	"SELECT k.place, pg_catalog.count(*), pg_catalog.min(COALESCE(c.tile_from_at, c.from_at)), pg_catalog.max(COALESCE(c.tile_to_at, c.to_at)),"
	" pg_catalog.sum(COALESCE(c.tile_count, c.count))::int8, pg_catalog.sum(COALESCE(c.tile_sum, c.sum)),"
	" pg_catalog.min(COALESCE(c.tile_min, c.min)), pg_catalog.max(COALESCE(c.tile_max, c.max))"
	" FROM ROWS FROM (" PS_PLAN_ARRAYS ") AS k(place, customer_id, metric, chunk_no)"
	" CROSS JOIN LATERAL (SELECT * FROM profile_stream_internal.window_chunks x"
	" WHERE x.customer_id = k.customer_id AND x.metric = k.metric AND x.chunk_no = k.chunk_no OFFSET 0) c"
	" WHERE c.tile_count IS NOT NULL OR c.chunk_no % 16 <> 0 GROUP BY k.place",
	NPARTS_ARGS, {INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID},.first_array = 1
};

static const Oid part_types[] = {INT4OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, NUMERICOID, NUMERICOID, NUMERICOID};

static bool
is_same_series(const PsChunk *a, const PsChunk *b)
{
	return strcmp(a->customer_id, b->customer_id) == 0 && strcmp(a->series, b->series) == 0;
}

static int
compare_chunks(const void *a, const void *b)
{
	const PsChunk *x = ((const PsTiledChunk *) a)->chunk;
	const PsChunk *y = ((const PsTiledChunk *) b)->chunk;
	int			order = strcmp(x->customer_id, y->customer_id);

	if (order == 0)
		order = strcmp(x->series, y->series);
	if (order == 0)
		order = x->chunk_no < y->chunk_no ? -1 : x->chunk_no > y->chunk_no;
	return order;
}

/* The parts of a tile that were added before; returns how many. */
static int
find_stored_parts(const PsTiledChunk *chunks, int place, int64 *parts)
{
	int			n = ps_tile_parts(chunks[place].chunk->chunk_no, parts);
	int64		first = chunks[chunks[place].run].chunk->chunk_no;
	int			stored = 0;

	for (int i = 0; i < n; i++)
		if (parts[i] < first)
			parts[stored++] = parts[i];
	return stored;
}

/* Makes the arguments of the statement; returns how many parts they name. */
static int
make_args(const PsTiledChunk *chunks, int n, int *nstored, Datum *args)
{
	static const Oid types[NPARTS_ARGS] = {INT4OID, TEXTOID, TEXTOID, INT8OID};
	PsColumn	columns[NPARTS_ARGS];
	int64		parts[PS_TILE_MAX_PARTS];
	int			total = 0;

	for (int i = 0; i < n; i++)
	{
		nstored[i] = chunks[i].span == 1 ? 0 : find_stored_parts(chunks, i, parts);
		total += nstored[i];
	}
	if (total == 0)
		return 0;
	for (int c = 0; c < NPARTS_ARGS; c++)
		ps_column_init(&columns[c], types[c], total);
	for (int i = 0; i < n; i++)
	{
		if (nstored[i] > 0)
			(void) find_stored_parts(chunks, i, parts);
		for (int p = 0; p < nstored[i]; p++)
		{
			ps_column_add(&columns[0], Int32GetDatum(i));
			ps_column_add_text(&columns[1], chunks[i].chunk->customer_id);
			ps_column_add_text(&columns[2], chunks[i].chunk->series);
			ps_column_add(&columns[3], Int64GetDatum(parts[p]));
		}
	}
	for (int c = 0; c < NPARTS_ARGS; c++)
		args[c] = ps_column_array(&columns[c]);
	return total;
}

static Datum
get_part_column(uint64 row, int column)
{
	bool		isnull;

	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);
}

/* Adds the parts that were added before. A tile that misses some of them is given up. */
static void
add_stored(PsTiledChunk *chunks, int n)
{
	int		   *nstored = palloc(n * sizeof(int));
	Datum		args[NPARTS_ARGS];
	uint64		found;

	if (make_args(chunks, n, nstored, args) == 0)
		return;
	found = ps_plan_run(&parts_plan, args, NULL, SPI_OK_SELECT);
	ps_plan_check_types(part_types, lengthof(part_types));
	for (uint64 i = 0; i < found; i++)
	{
		int			place = DatumGetInt32(get_part_column(i, 1));
		PsChunk		sums = {
			.from_at = DatumGetTimestampTz(get_part_column(i, 3)),.to_at = DatumGetTimestampTz(get_part_column(i, 4)),
			.count = DatumGetInt64(get_part_column(i, 5)),.sum = DatumGetNumeric(get_part_column(i, 6)),
			.min = DatumGetNumeric(get_part_column(i, 7)),.max = DatumGetNumeric(get_part_column(i, 8))
		};

		ps_tile_add(&chunks[place].tile, &sums);
		nstored[place] -= (int) DatumGetInt64(get_part_column(i, 2));
	}
	for (int i = 0; i < n; i++)
		if (nstored[i] != 0)
			chunks[i].span = 1;
}

/* Adds the parts that are among the chunks. All before this one are complete. */
static void
add_sealed(PsTiledChunk *chunks, int place)
{
	int64		first = chunks[chunks[place].run].chunk->chunk_no;
	int64		parts[PS_TILE_MAX_PARTS];
	int			n = ps_tile_parts(chunks[place].chunk->chunk_no, parts);

	for (int i = 0; i < n && parts[i] >= first; i++)
	{
		const PsTiledChunk *part = &chunks[chunks[place].run + (parts[i] - first)];

		Assert(part->chunk->chunk_no == parts[i]);
		if (part->span == 1 && ps_tile_span(parts[i]) > 1)
			chunks[place].span = 1; /* that tile was given up */
		ps_tile_add(&chunks[place].tile, part->span > 1 ? &part->tile : part->chunk);
	}
}

void
ps_chunk_tiles_make(PsTiledChunk *chunks, int n)
{
	qsort(chunks, n, sizeof(PsTiledChunk), compare_chunks);
	for (int i = 0; i < n; i++)
	{
		bool		goes_on = i > 0 && is_same_series(chunks[i - 1].chunk, chunks[i].chunk);

		chunks[i].run = goes_on ? chunks[i - 1].run : i;
		chunks[i].span = ps_tile_span(chunks[i].chunk->chunk_no);
		chunks[i].tile = *chunks[i].chunk;
	}
	add_stored(chunks, n);
	for (int i = 0; i < n; i++)
		if (chunks[i].span > 1)
			add_sealed(chunks, i);
}
