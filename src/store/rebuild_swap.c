/*
 * rebuild_swap.c
 *	  Makes the tables that a stream fills equal to those of the rebuild schema. Only
 *	  rows that differ are written. For swap_rebuild(), which has locked all of them.
 *
 *	  Some values are kept: segment and scores of profiles that are there, because a refresh computes them; the
 *	  times at which events were applied, where all else is equal; and the time of a
 *	  dead letter.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/profile.h"
#include "message.h"
#include "store/history_store.h"
#include "store/plan.h"
#include "store/rebuild_catalog.h"
#include "store/rebuild_schema.h"

/* lists of columns; o is the table that users read, n that of the rebuild */
#define NAME(column, ...) #column
#define OLD(column, ...) "o." #column
#define NEW(column, ...) "n." #column
#define PROFILE_COLUMNS PS_REBUILT_COLUMNS(NAME, ", ")
#define OLD_COMPARED_COLUMNS PS_COMPARED_COLUMNS(OLD, ", ")
#define NEW_COMPARED_COLUMNS PS_COMPARED_COLUMNS(NEW, ", ")
#define NEW_PROFILE_COLUMNS PS_REBUILT_COLUMNS(NEW, ", ")

#define CHUNK_COLUMNS(of) \
	of "from_at, " of "count, " of "sum, " of "min, " of "max, " of "samples, " of "days, " \
	of "tile_chunks, " of "tile_from_at, " of "tile_to_at, " of "tile_count, " of "tile_sum, " of "tile_min, " of "tile_max"

#define LETTER_COLUMNS(of) \
	of "stream, " of "kafka_timestamp, " of "key, " of "value, " of "headers, " of "kind, " of "errors, " \
	of "sqlstate, " of "customer_id, " of "event_id, " of "event_type"

#define OFFSET_COLUMNS(of, counters) \
	of "epoch, " of "start_offset, " of "next_offset, " of "read_offset, " of "finished, " of "end_offset, " \
	of "check_offset, " of "check_timestamp, " of "check_hash, " of "consumed, " counters ", " of "held, " of "held_bytes, " \
	of "sources, " of "last_message_at, " of "committed_at, " of "state, " of "error"

#define SAME_LETTER \
	"n.stream_id = o.stream_id AND n.topic = o.topic AND n.epoch = o.epoch AND n.partition = o.partition AND n.kafka_offset = o.kafka_offset"

#define SAME_CHUNK \
	"n.customer_id = o.customer_id AND n.metric = o.metric AND n.to_at = o.to_at AND n.chunk_no = o.chunk_no"

#define SAME_CHANGE \
	"n.customer_id = o.customer_id AND n.changed_at = o.changed_at AND n.version = o.version AND n.kind = o.kind"

/*
 * Chunks of event ids belong to the ids in the row of their customer: they stay where
 * these are equal. Before the rows change, the chunks of all other customers go.
 */
static const char ids_sql[] =
"DELETE FROM profile_stream_internal.event_id_chunks e WHERE NOT EXISTS"
" (SELECT FROM profile_stream.materialized_profiles o JOIN " PS_REBUILD_SCHEMA ".materialized_profiles n ON n.customer_id = o.customer_id"
" WHERE o.customer_id = e.customer_id AND profile_stream_internal.same_event_ids(o.event_ids, n.event_ids))";

static const char *const profiles[] = {
	"DELETE FROM profile_stream.materialized_profiles o WHERE NOT EXISTS"
	" (SELECT FROM " PS_REBUILD_SCHEMA ".materialized_profiles n WHERE n.customer_id = o.customer_id)",

	"UPDATE profile_stream.materialized_profiles o SET (" PROFILE_COLUMNS ") = ROW(" NEW_PROFILE_COLUMNS ")"
	" FROM " PS_REBUILD_SCHEMA ".materialized_profiles n WHERE n.customer_id = o.customer_id"
	" AND (ROW(" OLD_COMPARED_COLUMNS ") IS DISTINCT FROM ROW(" NEW_COMPARED_COLUMNS ")"
	" OR NOT profile_stream_internal.same_event_ids(o.event_ids, n.event_ids))",

	/* a seed may have brought scores */
	"INSERT INTO profile_stream.materialized_profiles (customer_id, segment, churn_risk_score, lifetime_value, " PROFILE_COLUMNS ")"
	" SELECT n.customer_id, n.segment, n.churn_risk_score, n.lifetime_value, " NEW_PROFILE_COLUMNS " FROM " PS_REBUILD_SCHEMA ".materialized_profiles n WHERE NOT EXISTS"
	" (SELECT FROM profile_stream.materialized_profiles o WHERE o.customer_id = n.customer_id)"
};

static const char *const rest[] = {
	"DELETE FROM profile_stream_internal.window_chunks o WHERE NOT EXISTS"
	" (SELECT FROM " PS_REBUILD_SCHEMA ".window_chunks n WHERE " SAME_CHUNK ")",

	"UPDATE profile_stream_internal.window_chunks o SET (" CHUNK_COLUMNS("") ") = ROW(" CHUNK_COLUMNS("n.") ")"
	" FROM " PS_REBUILD_SCHEMA ".window_chunks n WHERE " SAME_CHUNK
	" AND ROW(" CHUNK_COLUMNS("o.") ") IS DISTINCT FROM ROW(" CHUNK_COLUMNS("n.") ")",

	"INSERT INTO profile_stream_internal.window_chunks (customer_id, metric, to_at, chunk_no, " CHUNK_COLUMNS("") ")"
	" SELECT n.customer_id, n.metric, n.to_at, n.chunk_no, " CHUNK_COLUMNS("n.") " FROM " PS_REBUILD_SCHEMA ".window_chunks n"
	" WHERE NOT EXISTS (SELECT FROM profile_stream_internal.window_chunks o WHERE " SAME_CHUNK ")",

	"INSERT INTO profile_stream_internal.event_id_chunks (customer_id, chunk_no, sealed_to, hashes)"
	" SELECT n.customer_id, n.chunk_no, n.sealed_to, n.hashes FROM " PS_REBUILD_SCHEMA ".event_id_chunks n"
	" WHERE NOT EXISTS (SELECT FROM profile_stream_internal.event_id_chunks o"
	" WHERE o.customer_id = n.customer_id AND o.chunk_no = n.chunk_no)",

	/* dead letters of messages that the rebuild has not read are kept */
	"DELETE FROM profile_stream_internal.dead_letters o USING " PS_REBUILD_SCHEMA ".stream_offsets r, profile_stream_internal.stream_topics t"
	" WHERE o.stream_id = $1 AND t.stream_id = o.stream_id AND t.topic = o.topic"
	" AND r.stream_id = o.stream_id AND r.topic_no = t.topic_no AND r.partition = o.partition AND r.epoch = o.epoch"
	" AND o.kafka_offset >= r.start_offset AND NOT EXISTS"
	" (SELECT FROM " PS_REBUILD_SCHEMA ".dead_letters n WHERE " SAME_LETTER ")",

	"UPDATE profile_stream_internal.dead_letters o SET (" LETTER_COLUMNS("") ") = ROW(" LETTER_COLUMNS("n.") ")"
	" FROM " PS_REBUILD_SCHEMA ".dead_letters n WHERE " SAME_LETTER " AND o.stream_id = $1"
	" AND ROW(" LETTER_COLUMNS("o.") ") IS DISTINCT FROM ROW(" LETTER_COLUMNS("n.") ")",

	"INSERT INTO profile_stream_internal.dead_letters (stream_id, topic, epoch, partition, kafka_offset, dead_at, " LETTER_COLUMNS("") ")"
	" SELECT n.stream_id, n.topic, n.epoch, n.partition, n.kafka_offset, n.dead_at, " LETTER_COLUMNS("n.")
	" FROM " PS_REBUILD_SCHEMA ".dead_letters n WHERE n.stream_id = $1 AND NOT EXISTS"
	" (SELECT FROM profile_stream_internal.dead_letters o WHERE " SAME_LETTER ") ORDER BY n.dead_letter_id",

	"DELETE FROM profile_stream_internal.profile_history o WHERE o.kind = 'event' AND NOT EXISTS"
	" (SELECT FROM " PS_REBUILD_SCHEMA ".profile_history n WHERE " SAME_CHANGE " AND n.old = o.old)",

	"INSERT INTO profile_stream_internal.profile_history SELECT n.* FROM " PS_REBUILD_SCHEMA ".profile_history n"
	" WHERE NOT EXISTS (SELECT FROM profile_stream_internal.profile_history o WHERE " SAME_CHANGE ")",

	/* what was tracked before the rebuild began has its whole history now */
	"UPDATE profile_stream_internal.history_columns c SET since = '-infinity' FROM profile_stream_internal.stream_rebuilds b"
	" WHERE b.stream_id = $1 AND c.source = 'event' AND c.tracked_at < b.started_at",

	/* a change of commits makes the worker notice that its position is another one */
	"UPDATE profile_stream_internal.stream_offsets o SET (" OFFSET_COLUMNS("", PS_ALL_COUNTERS(NAME, ", ")) ") = ROW(" OFFSET_COLUMNS("n.", PS_ALL_COUNTERS(NEW, ", ")) "),"
	" commits = CASE WHEN ROW(n.epoch, n.next_offset, n.read_offset, n.finished)"
	" = ROW(o.epoch, o.next_offset, o.read_offset, o.finished) THEN o.commits ELSE GREATEST(o.commits, n.commits) + 1 END"
	" FROM " PS_REBUILD_SCHEMA ".stream_offsets n"
	" WHERE n.stream_id = o.stream_id AND n.topic_no = o.topic_no AND n.partition = o.partition AND o.stream_id = $1",

	"INSERT INTO profile_stream_internal.stream_offsets (stream_id, topic_no, partition, " OFFSET_COLUMNS("", PS_ALL_COUNTERS(NAME, ", ")) ")"
	" SELECT n.stream_id, n.topic_no, n.partition, " OFFSET_COLUMNS("n.", PS_ALL_COUNTERS(NEW, ", ")) " FROM " PS_REBUILD_SCHEMA ".stream_offsets n"
	" WHERE n.stream_id = $1 AND NOT EXISTS"
	" (SELECT FROM profile_stream_internal.stream_offsets o WHERE o.stream_id = n.stream_id AND o.topic_no = n.topic_no AND o.partition = n.partition)",

	"INSERT INTO profile_stream_internal.stream_gaps SELECT n.* FROM " PS_REBUILD_SCHEMA ".stream_gaps n WHERE n.stream_id = $1"
};

/* Runs a statement on whole tables; returns how many rows it wrote. */
static uint64
run_whole(const char *sql, int stream_id)
{
	static const Oid types[1] = {INT4OID};
	Datum		args[1] = {Int32GetDatum(stream_id)};

	return ps_plan_run_once(sql, 1, types, args, false);
}

int64
ps_rebuild_bring(List *rebuilds)
{
	int			any = ((PsRebuild *) linitial(rebuilds))->stream_id;
	int64		changed = 0;

	(void) run_whole(ids_sql, any);
	for (int i = 0; i < lengthof(profiles); i++)
		changed += run_whole(profiles[i], any);
	ps_history_cover_rebuild();
	for (int i = 0; i < lengthof(rest); i++)
	{
		ListCell   *cell;

		if (strstr(rest[i], "$1") == NULL)
			(void) run_whole(rest[i], any);
		else
			foreach(cell, rebuilds)
				(void) run_whole(rest[i], ((PsRebuild *) lfirst(cell))->stream_id);
	}
	return changed;
}
