/*
 * event_id_store.c
 *	  Rows of event_id_chunks. They are read only for ids that the filter does not
 *	  know to be new, and written with one statement for a batch.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/event_id_filter.h"
#include "store/event_id_store.h"
#include "store/plan.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define READ_AT_ONCE 4096		/* chunks, so that the memory is bounded however many a customer has */

/*
 * The row of the profile is read as it is now, under the customer's lock. So must be the
 * chunks that belong to it, and not as a transaction of REPEATABLE READ sees them.
 */
static PsPlan find_plan = {
	"SELECT k.ordinality::int4, c.hashes, c.sealed_to > $4"
	" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) WITH ORDINALITY"
	" AS k(customer_id, from_no, to_no, ordinality) JOIN profile_stream_internal.event_id_chunks c"
	" ON c.customer_id = k.customer_id AND c.chunk_no BETWEEN k.from_no AND k.to_no",
	4, {TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID},.latest = true
};

/* a chunk may be left of a profile that somebody deleted by hand: it counts no more */
static PsPlan add_plan = {
	"INSERT INTO profile_stream_internal.event_id_chunks (customer_id, chunk_no, sealed_to, hashes)"
	" SELECT * FROM ROWS FROM (" PS_PLAN_ARRAYS ") AS c(customer_id, chunk_no, sealed_to, hashes)"
	" ON CONFLICT (customer_id, chunk_no) DO UPDATE SET sealed_to = EXCLUDED.sealed_to, hashes = EXCLUDED.hashes",
	4, {TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, BYTEAARRAYOID},.first_array = 1
};

/* For each sealed chunk at most two are removed: so a customer keeps no more than the retention needs. It waits for nobody. */
static PsPlan forget_plan = {
	"DELETE FROM profile_stream_internal.event_id_chunks e WHERE e.ctid = ANY (ARRAY("
	" SELECT o.ctid FROM pg_catalog.unnest($1) AS k(customer_id) CROSS JOIN LATERAL"
	" (SELECT c.ctid, c.sealed_to FROM profile_stream_internal.event_id_chunks c WHERE c.customer_id = k.customer_id"
	" ORDER BY c.customer_id, c.chunk_no LIMIT 2 FOR UPDATE SKIP LOCKED) o"
	" WHERE o.sealed_to < pg_catalog.now() - (SELECT GREATEST(pg_catalog.max(s.dedupe_retention), '7 days') FROM profile_stream.streams s)))",
	1, {TEXTARRAYOID}
};

/* The questions about one customer that the filter cannot answer, and maybe others between them. */
typedef struct CustomerQueries
{
	PsIdQuery  *first;
	PsIdQuery  *end;			/* behind the last one */
	bool		fills;			/* the customer's sealed ids go to the filter */
	PsIdQuery **sorted;			/* the open questions by their hashes, when there are many; else NULL */
	int			nsorted;
} CustomerQueries;

static int
compare_queries(const void *a, const void *b)
{
	return memcmp((*(PsIdQuery *const *) a)->hash, (*(PsIdQuery *const *) b)->hash, sizeof(PsIdHash));
}

/* Sorts the questions about a customer, if they are more than the hashes of a chunk. */
static void
sort_queries(CustomerQueries *group)
{
	if (group->end - group->first <= PS_CHUNK_IDS)
		return;
	group->sorted = palloc((group->end - group->first) * sizeof(PsIdQuery *));
	for (PsIdQuery *query = group->first; query < group->end; query++)
		if (query->is_open)
			group->sorted[group->nsorted++] = query;
	qsort(group->sorted, group->nsorted, sizeof(PsIdQuery *), compare_queries);
}

/* Looks up the hashes of a chunk in sorted questions; both are in the same order. */
static void
compare_sorted_queries(CustomerQueries *group, const bytea *hashes)
{
	const PsIdHash *hash = (const PsIdHash *) VARDATA_ANY(hashes);
	int			n = VARSIZE_ANY_EXHDR(hashes) / sizeof(PsIdHash);
	int			from = 0;

	for (int i = 0; i < n; i++)
	{
		int			to = group->nsorted;

		while (from < to)
		{
			int			middle = from + (to - from) / 2;

			if (memcmp(group->sorted[middle]->hash, &hash[i], sizeof(PsIdHash)) < 0)
				from = middle + 1;

			else
				to = middle;
		}
		for (; from < group->nsorted && memcmp(group->sorted[from]->hash, &hash[i], sizeof(PsIdHash)) == 0; from++)
			group->sorted[from]->found = true;
	}
}

/* Compares the questions of a group with a chunk. */
static void
compare_chunk(CustomerQueries *group, const bytea *hashes, bool counts)
{
	if (!ps_id_chunk_is_valid(hashes))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a chunk of event ids of customer \"%s\" is damaged", group->first->customer_id)));
	if (group->fills)
		ps_id_filter_add(group->first->customer_key, hashes);
	if (!counts)
		return;
	if (group->sorted != NULL)
	{
		compare_sorted_queries(group, hashes);
		return;
	}
	for (PsIdQuery *query = group->first; query < group->end; query++)
		query->found |= query->is_open && ps_id_chunk_find(hashes, query->hash);
}

/* Reads chunks, for each group those with the given numbers. */
static void
read_chunks(CustomerQueries **groups, const PsColumn *columns, TimestampTz after)
{
	static const Oid types[3] = {INT4OID, BYTEAOID, BOOLOID};
	Datum		args[4] = {
		ps_column_array(&columns[0]), ps_column_array(&columns[1]), ps_column_array(&columns[2]), TimestampTzGetDatum(after)
	};
	uint64		found = ps_plan_run(&find_plan, args, NULL, SPI_OK_SELECT);

	ps_plan_check_types(types, 3);
	for (uint64 i = 0; i < found; i++)
	{
		bool		isnull;
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		int			group = DatumGetInt32(SPI_getbinval(row, desc, 1, &isnull)) - 1;

		compare_chunk(groups[group], DatumGetByteaPP(SPI_getbinval(row, desc, 2, &isnull)),
					  DatumGetBool(SPI_getbinval(row, desc, 3, &isnull)));
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Compares the questions of groups with all chunks of their customers, some of these at a time. */
static void
ask_table(CustomerQueries *groups, int n, TimestampTz after)
{
	CustomerQueries **asked = palloc(n * sizeof(CustomerQueries *));
	PsColumn	columns[3];
	int			i = 0;
	int64		from = 1;

	while (i < n)
	{
		int64		room = READ_AT_ONCE;

		ps_column_init(&columns[0], TEXTOID, n);
		ps_column_init(&columns[1], INT8OID, n);
		ps_column_init(&columns[2], INT8OID, n);
		while (i < n && room > 0)
		{
			const PsIdQuery *first = groups[i].first;
			int64		to = Min(from + room - 1, (int64) first->sealed->chunks);

			asked[columns[0].n] = &groups[i];
			ps_column_add_text(&columns[0], first->customer_id);
			ps_column_add(&columns[1], Int64GetDatum(from));
			ps_column_add(&columns[2], Int64GetDatum(to));
			room -= to - from + 1;
			from = to == first->sealed->chunks ? 1 : to + 1;
			i += from == 1;
		}
		read_chunks(asked, columns, after);
	}
}

/* Groups the questions that the filter cannot answer. */
static int
group_queries(PsIdQuery *queries, int n, CustomerQueries *groups)
{
	int			ngroups = 0;
	bool		has = false;

	for (int i = 0; i < n; i++)
	{
		CustomerQueries *last = &groups[Max(ngroups - 1, 0)];

		if (i == 0 || queries[i].sealed != queries[i - 1].sealed)
			has = ps_id_filter_has(queries[i].customer_key, queries[i].sealed);
		queries[i].found = false;
		queries[i].is_open = !has || ps_id_filter_test(queries[i].customer_key, queries[i].hash);
		if (!queries[i].is_open)
			continue;
		if (ngroups == 0 || last->first->sealed != queries[i].sealed)
			groups[ngroups++] = (CustomerQueries)
		{
			.first = &queries[i]
		};
		groups[ngroups - 1].end = &queries[i + 1];
	}
	return ngroups;
}

void
ps_event_ids_find_sealed(PsIdQuery *queries, int n, TimestampTz after)
{
	CustomerQueries *groups = palloc(Max(n, 1) * sizeof(CustomerQueries));
	int			ngroups = group_queries(queries, n, groups);

	for (int i = 0; i < ngroups; i++)
	{
		const PsIdQuery *first = groups[i].first;

		if (!ps_id_filter_has(first->customer_key, first->sealed))
			groups[i].fills = ps_id_filter_begin(first->customer_key, first->sealed);
		sort_queries(&groups[i]);
	}
	ask_table(groups, ngroups, after);
	for (int i = 0; i < ngroups; i++)
		if (groups[i].fills)
			ps_id_filter_end(groups[i].first->customer_key, groups[i].first->sealed);
	pfree(groups);
}

void
ps_id_chunks_add(PsIdChunk *first)
{
	PsColumn	columns[4];
	Datum		args[4];
	int			n = 0;

	for (const PsIdChunk *chunk = first; chunk != NULL; chunk = chunk->next)
		n++;
	if (n == 0)
		return;
	ps_column_init(&columns[0], TEXTOID, n);
	ps_column_init(&columns[1], INT8OID, n);
	ps_column_init(&columns[2], TIMESTAMPTZOID, n);
	ps_column_init(&columns[3], BYTEAOID, n);
	for (const PsIdChunk *chunk = first; chunk != NULL; chunk = chunk->next)
	{
		ps_column_add_text(&columns[0], chunk->customer_id);
		ps_column_add(&columns[1], Int64GetDatum(chunk->after.chunks));
		ps_column_add_time(&columns[2], chunk->sealed_to);
		ps_column_add(&columns[3], PointerGetDatum(chunk->hashes));
	}
	for (int c = 0; c < 4; c++)
		args[c] = ps_column_array(&columns[c]);
	ps_plan_write(&add_plan, args, NULL, SPI_OK_INSERT, n, "event_id_chunks");
	(void) ps_plan_run(&forget_plan, args, NULL, SPI_OK_DELETE);
	for (const PsIdChunk *chunk = first; chunk != NULL; chunk = chunk->next)
		ps_id_filter_seal(chunk);
}
