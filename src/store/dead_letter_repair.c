/*
 * dead_letter_repair.c
 *	  The SQL of retry_dead_letters() and discard_dead_letters().
 *
 *	  The statements are planned for their arguments each time: of very many dead
 *	  letters the filters may select a few, or all.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "settings.h"
#include "store/dead_letter_repair.h"
#include "store/owner.h"
#include "store/plan.h"
#include "utils/array.h"
#include "utils/rls.h"

#define MATCHES "profile_stream_internal.dead_letter_matches(d, $1, $2, $3, $4, $5, $6, $7, $8)"
#define VISIBLE "($9 IS NULL OR d.dead_letter_id = ANY ($9))"

#define CHOSEN_TYPES TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8ARRAYOID, TEXTOID
#define CHOSEN_ARGS (PS_LETTER_FILTERS + 1)

static const char visible_sql[] =
"SELECT d.dead_letter_id FROM profile_stream_internal.dead_letters d WHERE " MATCHES;

static const char lock_sql[] =
"SELECT d.dead_letter_id FROM profile_stream_internal.dead_letters d WHERE " MATCHES " AND " VISIBLE
" AND ($10 IS NULL OR d.dead_letter_id > $10) ORDER BY d.dead_letter_id LIMIT $11 FOR UPDATE SKIP LOCKED";

static const char discard_sql[] =
"DELETE FROM profile_stream_internal.dead_letters d WHERE " MATCHES " AND " VISIBLE;

static const char stream_known_sql[] =
"SELECT 1 WHERE EXISTS (SELECT FROM profile_stream.streams s WHERE s.name OPERATOR(pg_catalog.=) $1)"
" OR EXISTS (SELECT FROM profile_stream_internal.dead_letters d WHERE d.stream OPERATOR(pg_catalog.=) $1)";

static const char topic_known_sql[] =
"SELECT 1 WHERE EXISTS (SELECT FROM profile_stream.streams s WHERE s.topic OPERATOR(pg_catalog.=) $1 OR $1 OPERATOR(pg_catalog.=) ANY (s.topics))"
" OR EXISTS (SELECT FROM profile_stream_internal.stream_topics t WHERE t.topic OPERATOR(pg_catalog.=) $1)"
" OR EXISTS (SELECT FROM profile_stream_internal.dead_letters d WHERE d.topic OPERATOR(pg_catalog.=) $1)";

#define RESULTS \
	" pg_catalog.jsonb_to_recordset($2) AS r(ordinal int, outcome text, kind text, errors jsonb, sqlstate text)" \
	" WHERE d.dead_letter_id = ($1)[r.ordinal] AND ($3 IS NULL OR d.dead_letter_id = ANY ($3))"
#define DONE " IN ('applied', 'duplicate', 'blocked')"

/* a dead letter without new errors keeps those that it has */
static const char note_sql[] =
"UPDATE profile_stream_internal.dead_letters d SET attempts = d.attempts + 1, failed_at = pg_catalog.clock_timestamp(),"
" kind = COALESCE(r.kind, d.kind), sqlstate = CASE WHEN r.errors IS NULL THEN d.sqlstate ELSE r.sqlstate END,"
" errors = CASE WHEN r.errors IS NULL THEN d.errors ELSE ARRAY(SELECT pg_catalog.jsonb_array_elements_text(r.errors)) END"
" FROM" RESULTS " AND r.outcome NOT" DONE;

static const char remove_sql[] =
"DELETE FROM profile_stream_internal.dead_letters d USING" RESULTS " AND r.outcome" DONE;

/* The ids that the last statement returned. */
static Datum
get_numbers(uint64 n)
{
	Datum	   *numbers = palloc(Max(n, 1) * sizeof(Datum));

	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		numbers[i] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
	}
	SPI_freetuptable(SPI_tuptable);
	return PointerGetDatum(construct_array(numbers, (int) n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* Finds which of the matching dead letters the caller may see; false when row security hides none. */
static bool
find_visible(const Datum *filters, const bool *nulls, Datum *visible)
{
	static const Oid types[PS_LETTER_FILTERS] = {CHOSEN_TYPES};
	char		flags[PS_LETTER_FILTERS];

	if (check_enable_rls(ps_own_table(false, "dead_letters"), InvalidOid, true) != RLS_ENABLED)
		return false;
	for (int i = 0; i < PS_LETTER_FILTERS; i++)
		flags[i] = nulls[i] ? 'n' : ' ';
	*visible = get_numbers(ps_plan_run_filtered(visible_sql, PS_LETTER_FILTERS, types, filters, flags, true));
	return true;
}

/* Fills the first arguments of the statements that select dead letters. */
static void
dead_letter_repair_choose(const Datum *filters, const bool *nulls, Datum *args, char *flags)
{
	bool		limited = find_visible(filters, nulls, &args[PS_LETTER_FILTERS]);

	memcpy(args, filters, PS_LETTER_FILTERS * sizeof(Datum));
	for (int i = 0; i < PS_LETTER_FILTERS; i++)
		flags[i] = nulls[i] ? 'n' : ' ';
	flags[PS_LETTER_FILTERS] = limited ? ' ' : 'n';
}

bool
ps_dead_letters_know(bool a_topic, Datum name)
{
	static const Oid type = TEXTOID;
	uint64		found = ps_plan_run_filtered(a_topic ? topic_known_sql : stream_known_sql, 1, &type, &name, NULL, false);

	SPI_freetuptable(SPI_tuptable);
	return found > 0;
}

Datum
ps_dead_letters_lock(const Datum *filters, const bool *nulls, Datum after_id, bool from_first, int64 max_letters)
{
	static const Oid types[CHOSEN_ARGS + 2] = {CHOSEN_TYPES, INT8ARRAYOID, INT8OID, INT8OID};
	Datum		args[CHOSEN_ARGS + 2];
	char		flags[CHOSEN_ARGS + 2];

	dead_letter_repair_choose(filters, nulls, args, flags);
	args[CHOSEN_ARGS] = after_id;
	flags[CHOSEN_ARGS] = from_first ? 'n' : ' ';
	args[CHOSEN_ARGS + 1] = Int64GetDatum(max_letters);
	flags[CHOSEN_ARGS + 1] = ' ';
	return get_numbers(ps_plan_run_filtered(lock_sql, CHOSEN_ARGS + 2, types, args, flags, false));
}

void
ps_dead_letters_settle(Datum ids, Datum results)
{
	static const Oid types[3] = {INT8ARRAYOID, JSONBOID, INT8ARRAYOID};
	Datum		filters[PS_LETTER_FILTERS] = {[6] = ids};
	bool		nulls[PS_LETTER_FILTERS] = {true, true, true, true, true, true, false, true};
	Datum		args[3] = {ids, results};
	char		flags[3] = {' ', ' ', ' '};

	if (!find_visible(filters, nulls, &args[2]))
		flags[2] = 'n';
	(void) ps_plan_run_filtered(note_sql, 3, types, args, flags, false);
	(void) ps_plan_run_filtered(remove_sql, 3, types, args, flags, false);
}

int64
ps_dead_letters_discard(const Datum *filters, const bool *nulls)
{
	static const Oid types[CHOSEN_ARGS] = {CHOSEN_TYPES, INT8ARRAYOID};
	Datum		args[CHOSEN_ARGS];
	char		flags[CHOSEN_ARGS];

	dead_letter_repair_choose(filters, nulls, args, flags);
	return (int64) ps_plan_run_filtered(discard_sql, CHOSEN_ARGS, types, args, flags, false);
}
