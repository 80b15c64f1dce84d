/*
 * score_catalog.c
 *	  The SQL of a refresh of scores.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "settings.h"
#include "store/confirmed_code.h"
#include "store/history_catalog.h"
#include "store/history_partitions.h"
#include "store/plan.h"
#include "store/score_catalog.h"
#include "store/shard_fence.h"
#include "store/shard_names.h"
#include "store/shards.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/timestamp.h"

static PsPlan due_plan = {
	"SELECT p.customer_id, p.ctid FROM profile_stream.materialized_profiles p WHERE p.customer_id > $1"
	" AND (p.scored_at IS NULL OR p.customer_id > $2) ORDER BY p.customer_id LIMIT $3",
	3, {TEXTOID, TEXTOID, INT8OID}
};

#define READ(document) \
	"SELECT k.ordinality::int4, p.version, p.watermark, p.segment, p.churn_risk_score, p.lifetime_value," \
	" d.segment, d.churn_risk_score, d.lifetime_value, " document ", p.scored_at IS NULL, p.updated_at" \
	" FROM pg_catalog.unnest($1) WITH ORDINALITY AS k(customer_id, ordinality)" \
	" JOIN profile_stream.materialized_profiles p ON p.customer_id = k.customer_id" \
	" CROSS JOIN LATERAL profile_stream.default_scores(" PS_ROW_OF_PROFILES ", $2) d"

static PsPlan read_plan = {READ("NULL::jsonb"), 2, {TEXTARRAYOID, TIMESTAMPTZOID}};

static PsPlan read_documents_plan = {READ("profile_stream_internal.profile_document(" PS_ROW_OF_PROFILES ", $2)"), 2, {TEXTARRAYOID, TIMESTAMPTZOID}};

static PsPlan write_plan = {
	"UPDATE profile_stream.materialized_profiles p SET segment = n.segment, churn_risk_score = n.churn_risk_score,"
	" lifetime_value = n.lifetime_value, scored_at = $7"
	" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),"
	" pg_catalog.unnest($5), pg_catalog.unnest($6)) WITH ORDINALITY"
	" AS n(customer_id, version, watermark, segment, churn_risk_score, lifetime_value, ordinality)"
	" WHERE p.customer_id = n.customer_id AND p.version = n.version AND p.watermark = n.watermark"
	" RETURNING n.ordinality::int4",
	7, {TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, FLOAT8ARRAYOID, NUMERICARRAYOID, TIMESTAMPTZOID}
};

#define SCORE(column) "('" #column "', pg_catalog.to_jsonb(n.old_" #column "), pg_catalog.to_jsonb(n.new_" #column "))"

static PsPlan keep_plan = {
	"INSERT INTO profile_stream_internal.profile_history (customer_id, changed_at, version, kind, old)"
	" SELECT n.customer_id, $1, n.version, 'score', o.old FROM ROWS FROM (" PS_PLAN_ARRAYS ")"
	" AS n(customer_id, version, old_segment, old_churn_risk_score, old_lifetime_value, new_segment, new_churn_risk_score, new_lifetime_value)"
	" CROSS JOIN LATERAL (SELECT pg_catalog.jsonb_object_agg(v.name, v.old) AS old"
	" FROM (VALUES " SCORE(segment) ", " SCORE(churn_risk_score) ", " SCORE(lifetime_value) ") v(name, old, new)"
	" JOIN profile_stream_internal.history_columns c ON c.name = v.name WHERE v.old <> v.new) o WHERE o.old IS NOT NULL",
	9, {TIMESTAMPTZOID, TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID, FLOAT8ARRAYOID, NUMERICARRAYOID, TEXTARRAYOID, FLOAT8ARRAYOID, NUMERICARRAYOID},
	.first_array = 2
};

static PsPlan function_plan = {
	"SELECT f.function, f.owner, " PS_IS_CONFIRMED("score_function", "'t'") " FROM profile_stream_internal.score_function f", 0, {0}
};

static PsPlan clear_function_plan = {"DELETE FROM profile_stream_internal.score_function f", 0, {0}};

static PsPlan set_function_plan = {
	"INSERT INTO profile_stream_internal.score_function AS f (function, owner, set_at) VALUES ($1, $2, pg_catalog.now())"
	" ON CONFLICT (is_only) DO UPDATE SET function = excluded.function, owner = excluded.owner, set_at = excluded.set_at",
	2, {TEXTOID, REGROLEOID}
};

static PsPlan total_plan = {
	"SELECT GREATEST(c.reltuples, 0)::int8 FROM pg_catalog.pg_class c WHERE c.oid = 'profile_stream.materialized_profiles'::pg_catalog.regclass"
};

static PsPlan begin_plan = {
	"INSERT INTO profile_stream_internal.score_refresh AS r (state, started_at, pid, profiles_total, committed_at)"
	" VALUES ('running', pg_catalog.clock_timestamp(), $1, $2, pg_catalog.clock_timestamp())"
	" ON CONFLICT (is_only) DO UPDATE SET state = excluded.state, started_at = excluded.started_at, finished_at = NULL, pid = excluded.pid,"
	" profiles_total = excluded.profiles_total, profiles_done = 0, profiles_changed = 0, segment_changes = 0, profiles_failed = 0,"
	" profiles_skipped = 0, notifications_skipped = 0, batch_ms = NULL, lock_ms = 0, committed_at = excluded.committed_at,"
	" error = NULL, error_at = NULL",
	2, {INT4OID, INT8OID}
};

static PsPlan pass_plan = {
	"SELECT s.reached, s.began_at, s.missed FROM profile_stream_internal.score_passes s WHERE s.slot = $1 AND s.began_at IS NOT NULL",
	1, {TEXTOID}
};

static PsPlan write_pass_plan = {
	"INSERT INTO profile_stream_internal.score_passes (slot, began_at, reached, missed) SELECT $4, $1, $2, $3"
	" WHERE $2 IS NULL OR $2 = '' OR EXISTS (SELECT FROM profile_stream.materialized_profiles p WHERE p.customer_id = $2)"
	" ON CONFLICT (slot) DO UPDATE SET began_at = excluded.began_at, reached = excluded.reached, missed = excluded.missed",
	4, {TIMESTAMPTZOID, TEXTOID, BOOLOID, TEXTOID}
};

static PsPlan progress_plan = {
	"UPDATE profile_stream_internal.score_refresh r SET profiles_done = $1, profiles_changed = $2, segment_changes = $3, profiles_failed = $4,"
	" profiles_skipped = $5, notifications_skipped = $6, batch_ms = $7, lock_ms = $8, committed_at = pg_catalog.clock_timestamp()",
	8, {INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, FLOAT8OID, FLOAT8OID}
};

static PsPlan error_plan = {
	"UPDATE profile_stream_internal.score_refresh r SET error = $1, error_at = pg_catalog.clock_timestamp()",
	1, {TEXTOID}
};

static PsPlan end_plan = {
	"UPDATE profile_stream_internal.score_refresh r SET state = $1, finished_at = pg_catalog.clock_timestamp()",
	1, {TEXTOID}
};

static PsPlan failed_plan = {
	"SELECT pg_catalog.count(*) FROM profile_stream_internal.score_refresh r WHERE r.state = 'failed'"
	" AND r.error_at >= ALL (SELECT s.error_at FROM profile_stream_internal.segments s WHERE s.error_at IS NOT NULL)", 0, {0}
};

static PsPlan age_plan = {
	"SELECT COALESCE((SELECT (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - r.started_at) * 1000000)::int8"
	" FROM profile_stream_internal.score_refresh r), -1)",
	0, {0}
};

/* A value of the last result, copied into the current context. */
static Datum
get_value(uint64 row, int column, int16 typlen)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? (Datum) 0 : datumCopy(value, typlen > 0, typlen);
}

static void
get_scores(uint64 row, int column, PsScores *scores)
{
	scores->segment = ps_plan_text(row, column);
	scores->churn_risk_score = DatumGetFloat8(get_value(row, column + 1, sizeof(float8)));
	scores->lifetime_value = get_value(row, column + 2, -1);
}

/* The array of the profiles' ids. */
static Datum
ids_of(PsScored **profiles, int n)
{
	PsColumn	ids;

	ps_column_init(&ids, TEXTOID, n);
	for (int i = 0; i < n; i++)
		ps_column_add_text(&ids, profiles[i]->customer_id);
	return ps_column_array(&ids);
}

int
ps_scores_due(const char *after, const PsPass *pass, int limit, PsDue *due)
{
	Datum		args[3] = {CStringGetTextDatum(after), (Datum) 0, Int64GetDatum(limit)};
	int			n;

	if (pass->reached != NULL)
		args[1] = CStringGetTextDatum(pass->reached);
	n = ps_plan_run(&due_plan, args, pass->reached == NULL ? " n " : NULL, SPI_OK_SELECT);
	for (int i = 0; i < n; i++)
	{
		bool		isnull;

		due[i].customer_id = ps_plan_text(i, 1);
		due[i].place = *(ItemPointer) DatumGetPointer(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return n;
}

void
ps_scores_read(PsScored **profiles, int n, TimestampTz as_of, bool documents)
{
	Datum		args[2] = {ids_of(profiles, n), TimestampTzGetDatum(as_of)};
	uint64		found = ps_plan_run(documents ? &read_documents_plan : &read_plan, args, NULL, SPI_OK_SELECT);

	for (uint64 i = 0; i < found; i++)
	{
		PsScored   *profile = profiles[DatumGetInt32(get_value(i, 1, sizeof(int32))) - 1];

		profile->found = true;
		profile->version = DatumGetInt64(get_value(i, 2, sizeof(int64)));
		profile->watermark = DatumGetTimestampTz(get_value(i, 3, sizeof(TimestampTz)));
		get_scores(i, 4, &profile->old);
		get_scores(i, 7, &profile->new);
		profile->document = get_value(i, 10, -1);
		profile->unscored = DatumGetBool(get_value(i, 11, sizeof(bool)));
		profile->updated_at = DatumGetTimestampTz(get_value(i, 12, sizeof(TimestampTz)));
	}
	SPI_freetuptable(SPI_tuptable);
}

void
ps_scores_write(PsScored **profiles, int n, TimestampTz scored_at)
{
	PsColumn	columns[6];
	Oid			types[6] = {TEXTOID, INT8OID, TIMESTAMPTZOID, TEXTOID, FLOAT8OID, NUMERICOID};
	Datum		args[7];
	uint64		written;

	for (int c = 0; c < lengthof(columns); c++)
		ps_column_init(&columns[c], types[c], n);
	for (int i = 0; i < n; i++)
	{
		ps_column_add_text(&columns[0], profiles[i]->customer_id);
		ps_column_add(&columns[1], Int64GetDatum(profiles[i]->version));
		ps_column_add(&columns[2], TimestampTzGetDatum(profiles[i]->watermark));
		ps_column_add_text(&columns[3], profiles[i]->new.segment);
		ps_column_add(&columns[4], Float8GetDatum(profiles[i]->new.churn_risk_score));
		ps_column_add(&columns[5], profiles[i]->new.lifetime_value);
	}
	for (int c = 0; c < lengthof(columns); c++)
		args[c] = ps_column_array(&columns[c]);
	args[6] = TimestampTzGetDatum(scored_at);
	written = ps_plan_run(&write_plan, args, NULL, SPI_OK_UPDATE_RETURNING);
	for (uint64 i = 0; i < written; i++)
		profiles[DatumGetInt32(get_value(i, 1, sizeof(int32))) - 1]->done = true;
	SPI_freetuptable(SPI_tuptable);
}

static void
add_scores(PsColumn *columns, const PsScores *scores)
{
	ps_column_add_text(&columns[0], scores->segment);
	ps_column_add(&columns[1], Float8GetDatum(scores->churn_risk_score));
	ps_column_add(&columns[2], scores->lifetime_value);
}

void
ps_scores_keep_old(PsScored **profiles, int n, TimestampTz scored_at)
{
	static const Oid types[8] = {TEXTOID, INT8OID, TEXTOID, FLOAT8OID, NUMERICOID, TEXTOID, FLOAT8OID, NUMERICOID};
	PsColumn	columns[8];
	Datum		args[9] = {TimestampTzGetDatum(scored_at)};

	if (n == 0 || !ps_history_tracked()->scores)
		return;
	for (int c = 0; c < lengthof(columns); c++)
		ps_column_init(&columns[c], types[c], n);
	for (int i = 0; i < n; i++)
	{
		if (!profiles[i]->done)
			continue;
		ps_column_add_text(&columns[0], profiles[i]->customer_id);
		ps_column_add(&columns[1], Int64GetDatum(profiles[i]->version));
		add_scores(&columns[2], &profiles[i]->old);
		add_scores(&columns[5], &profiles[i]->new);
	}
	for (int c = 0; c < lengthof(columns); c++)
		args[c + 1] = ps_column_array(&columns[c]);
	ps_history_cover(&scored_at, 1);
	(void) ps_plan_run(&keep_plan, args, NULL, SPI_OK_INSERT);
}

bool
ps_score_function_find(PsScoreFunction *found)
{
	bool		any = ps_plan_run(&function_plan, NULL, NULL, SPI_OK_SELECT) > 0;

	if (any)
	{
		found->function = ps_plan_text(0, 1);
		found->owner = DatumGetObjectId(get_value(0, 2, sizeof(Oid)));
		found->confirmed = DatumGetBool(get_value(0, 3, sizeof(bool)));
	}
	SPI_freetuptable(SPI_tuptable);
	return any;
}

void
ps_score_function_set(const char *function, Oid owner)
{
	Datum		args[2] = {(Datum) 0, ObjectIdGetDatum(owner)};

	if (function == NULL)
	{
		(void) ps_definitions_write(&clear_function_plan, NULL, NULL, SPI_OK_DELETE);
		return;
	}
	args[0] = CStringGetTextDatum(function);
	(void) ps_definitions_write(&set_function_plan, args, NULL, SPI_OK_INSERT);
	ps_confirm("score_function", "t");
}

/* A step of ps_each_shard(): how many profiles the planner believes there are. */
static int64
count_profiles(void *arg)
{
	return ps_plan_number(&total_plan, NULL);
}

void
ps_refresh_begin(void)
{
	Datum		args[2] = {Int32GetDatum(MyProcPid), Int64GetDatum(ps_each_shard(count_profiles, NULL))};

	(void) ps_plan_run(&begin_plan, args, NULL, SPI_OK_INSERT);
}

/* The slot under which the pass is stored: that of the shard, so that the pass moves with it. */
static Datum
slot_of_pass(void)
{
	return CStringGetTextDatum(ps_shards_used() == PS_NO_SHARD ? "" : ps_shards_slot(ps_shards_used()));
}

void
ps_pass_read(PsPass *pass)
{
	Datum		args[1] = {slot_of_pass()};

	*pass = (PsPass)
	{
		.began_at = DT_NOBEGIN
	};
	if (ps_plan_run(&pass_plan, args, NULL, SPI_OK_SELECT) > 0)
	{
		pass->reached = ps_plan_text(0, 1);
		pass->began_at = DatumGetTimestampTz(get_value(0, 2, sizeof(TimestampTz)));
		pass->missed = DatumGetBool(get_value(0, 3, sizeof(bool)));
	}
	SPI_freetuptable(SPI_tuptable);
}

void
ps_pass_write(const PsPass *pass)
{
	Datum		args[4] = {TimestampTzGetDatum(pass->began_at), (Datum) 0, BoolGetDatum(pass->missed), slot_of_pass()};
	char		nulls[] = "    ";

	if (TIMESTAMP_IS_NOBEGIN(pass->began_at))
		nulls[0] = 'n';
	if (pass->reached == NULL)
		nulls[1] = 'n';
	else
		args[1] = CStringGetTextDatum(pass->reached);
	(void) ps_plan_run(&write_pass_plan, args, nulls, SPI_OK_INSERT);
}

void
ps_refresh_progress(const PsRefreshCounts *counts)
{
	Datum		args[8] = {
		Int64GetDatum(counts->done), Int64GetDatum(counts->changed), Int64GetDatum(counts->segment_changes), Int64GetDatum(counts->failed),
		Int64GetDatum(counts->skipped), Int64GetDatum(counts->notifications_skipped),
		Float8GetDatum(counts->batch_ms), Float8GetDatum(counts->lock_ms)
	};

	(void) ps_plan_run(&progress_plan, args, NULL, SPI_OK_UPDATE);
}

void
ps_refresh_note_error(const char *error)
{
	Datum		args[1] = {CStringGetTextDatum(error)};

	(void) ps_plan_run(&error_plan, args, NULL, SPI_OK_UPDATE);
}

static void
set_state(const char *state)
{
	Datum		args[1] = {CStringGetTextDatum(state)};

	(void) ps_plan_run(&end_plan, args, NULL, SPI_OK_UPDATE);
}

void
ps_refresh_end(const PsRefreshCounts *counts)
{
	ps_refresh_progress(counts);
	set_state("done");
}

void
ps_refresh_fail(const char *error)
{
	ps_refresh_note_error(error);
	set_state("failed");
}

bool
ps_refresh_has_failed(void)
{
	return ps_plan_number(&failed_plan, NULL) > 0;
}

/* Microseconds since the last refresh began, even if it failed; -1: there was none. */
static int64
refresh_age_us(void)
{
	return ps_plan_number(&age_plan, NULL);
}

bool
ps_refresh_is_due(void)
{
	int64		age_us = refresh_age_us();

	return age_us < 0 || age_us >= ps_score_interval_s * USECS_PER_SEC;
}
