/*
 * topic_catalog.c
 *	  The SQL of stream_topics. A topic keeps its row as long as its stream: a number is
 *	  never used again, and a topic that comes back goes on at its offsets.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "store/plan.h"
#include "store/rebuild_schema.h"
#include "store/topic_catalog.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* adds names, in their order, with the next numbers */
#define ADD_TOPICS(pattern, is_new, names) \
	"INSERT INTO profile_stream_internal.stream_topics (stream_id, topic_no, topic, pattern, is_new, joined_at, since)" \
	" SELECT $1, (SELECT COALESCE(pg_catalog.max(t.topic_no) + 1, 0) FROM profile_stream_internal.stream_topics t WHERE t.stream_id = $1)" \
	" + (pg_catalog.row_number() OVER (ORDER BY n.place))::int - 1, n.topic, " pattern ", " is_new ", pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp()" \
	" FROM " names " n(topic, place) WHERE NOT EXISTS" \
	" (SELECT FROM profile_stream_internal.stream_topics t WHERE t.stream_id = $1 AND t.topic = n.topic)"

static PsPlan add_plan = {
	ADD_TOPICS("NULL", "false", "pg_catalog.unnest($2) WITH ORDINALITY AS"),
	2, {INT4OID, TEXTARRAYOID}
};

/* no stream reads what a stream of the database writes; of topics that were found before by the same pattern the new ones are later */
static PsPlan discover_plan = {
	"WITH known AS (UPDATE profile_stream_internal.stream_topics t SET pattern = $3"
	" WHERE t.stream_id = $1 AND t.pattern IS DISTINCT FROM $3 AND t.topic = ANY ($2) AND t.topic ~ ($3 COLLATE \"C\") RETURNING 1), added AS ("
	ADD_TOPICS("$3", "$4 OR EXISTS (SELECT FROM profile_stream_internal.stream_topics t WHERE t.stream_id = $1 AND t.pattern = $3)",
			   "(SELECT u.topic, u.place FROM pg_catalog.unnest($2) WITH ORDINALITY AS u(topic, place) WHERE u.topic ~ ($3 COLLATE \"C\")"
			   " AND NOT EXISTS (SELECT FROM profile_stream.streams s WHERE s.changelog_topic = u.topic OR s.dead_letter_topic = u.topic)) AS")
	" RETURNING 1) SELECT (SELECT pg_catalog.count(*) FROM known) + (SELECT pg_catalog.count(*) FROM added)",
	4, {INT4OID, TEXTARRAYOID, TEXTOID, BOOLOID}
};

static PsPlan find_plan = {
	"SELECT t.topic_no, t.topic, t.is_new FROM profile_stream_internal.stream_topics t"
	" WHERE t.stream_id = $1 AND (t.topic = ANY ($2) OR t.pattern = $3)"
	" UNION ALL SELECT -1, n.topic, false FROM pg_catalog.unnest($2) AS n(topic) WHERE NOT EXISTS"
	" (SELECT FROM profile_stream_internal.stream_topics t WHERE t.stream_id = $1 AND t.topic = n.topic) ORDER BY 1, 2",
	3, {INT4OID, TEXTARRAYOID, TEXTOID}
};

/* the row as it was is read beside the row that is written; how many partitions a topic has is known while it answers */
static PsPlan note_plan = {
	"WITH n AS (SELECT * FROM ROWS FROM (" PS_PLAN_ARRAYS ") AS n(topic_no, state, error, partitions)),"
	" w AS (UPDATE profile_stream_internal.stream_topics t SET state = n.state, error = n.error, partitions = COALESCE(NULLIF(n.partitions, 0), t.partitions),"
	" since = CASE WHEN o.state = n.state THEN t.since ELSE pg_catalog.clock_timestamp() END"
	" FROM n, profile_stream_internal.stream_topics o WHERE t.stream_id = $1 AND t.topic_no = n.topic_no"
	" AND o.stream_id = $1 AND o.topic_no = n.topic_no AND (o.state <> n.state OR NULLIF(n.partitions, 0) <> COALESCE(o.partitions, 0))"
	" RETURNING t.topic, o.state AS from_state, o.since, n.state, n.error),"
	" u AS (SELECT * FROM w WHERE w.state <> w.from_state),"
	" l AS (INSERT INTO profile_stream.stream_log (logged_at, stream, what, part, from_state, to_state, reason, hint, lasted)"
	" SELECT pg_catalog.clock_timestamp(), s.name, 'topic', u.topic, u.from_state, u.state, u.error,"
	" CASE WHEN u.error IS NOT NULL THEN 'See the hint of the topic in stat_topics.' END, pg_catalog.clock_timestamp() - u.since"
	" FROM u CROSS JOIN profile_stream.streams s WHERE s.stream_id = $1)"
	" SELECT u.topic, u.state, u.error FROM u",
	5, {INT4OID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID},.first_array = 2
};

/* The names that the stream's options have. */
static Datum
named_topics(const PsStream *stream)
{
	PsColumn	names;

	ps_column_init(&names, TEXTOID, stream->topics.n + 1);
	if (stream->topic != NULL)
		ps_column_add_text(&names, stream->topic);
	for (int i = 0; i < stream->topics.n; i++)
		ps_column_add_text(&names, stream->topics.texts[i]);
	return ps_column_array(&names);
}

List *
ps_topics_known(const PsStream *stream)
{
	Datum		args[3] = {Int32GetDatum(stream->stream_id), named_topics(stream)};
	char		nulls[3] = {' ', ' ', stream->topic_pattern ? ' ' : 'n'};
	List	   *topics = NIL;
	uint64		n;

	if (stream->topic_pattern != NULL)
		args[2] = CStringGetTextDatum(stream->topic_pattern);
	n = ps_plan_run(&find_plan, args, nulls, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		PsTopic    *topic = palloc(sizeof(PsTopic));
		bool		isnull;

		topic->topic_no = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		topic->name = ps_plan_text(i, 2);
		topic->is_new = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &isnull));
		topics = lappend(topics, topic);
	}
	return topics;
}

List *
ps_topics_number(const PsStream *stream)
{
	Datum		args[2] = {Int32GetDatum(stream->stream_id), named_topics(stream)};

	(void) ps_plan_run(&add_plan, args, NULL, SPI_OK_INSERT);
	return ps_topics_known(stream);
}

int
ps_topics_discover(const PsStream *stream, char **names, int n, bool later)
{
	PsColumn	column;
	Datum		args[4] = {Int32GetDatum(stream->stream_id), 0, CStringGetTextDatum(stream->topic_pattern), BoolGetDatum(later)};

	ps_column_init(&column, TEXTOID, n);
	for (int i = 0; i < n; i++)
		ps_column_add_text(&column, names[i]);
	args[1] = ps_column_array(&column);
	return (int) ps_plan_number(&discover_plan, args);
}

void
ps_topics_note(const PsStream *stream, const PsLookup *lookup)
{
	PsColumn	numbers;
	PsColumn	states;
	PsColumn	errors;
	PsColumn	partitions;
	Datum		args[5] = {Int32GetDatum(stream->stream_id)};
	uint64		n;

	if (ps_rebuild_schema_used())
		return;					/* its stream says it */
	ps_column_init(&numbers, INT4OID, lookup->ntopics);
	ps_column_init(&states, TEXTOID, lookup->ntopics);
	ps_column_init(&errors, TEXTOID, lookup->ntopics);
	ps_column_init(&partitions, INT4OID, lookup->ntopics);
	for (int t = 0; t < lookup->ntopics; t++)
	{
		const PsLookupTopic *topic = &lookup->topics[t];

		if (topic->npartitions == 0 && topic->error[0] == '\0')
			continue;			/* nothing is known of it */
		ps_column_add(&numbers, Int32GetDatum(topic->topic_no));
		ps_column_add_text(&states, topic->missing ? "missing" : topic->npartitions > 0 ? "running" : "retrying");
		ps_column_add_text(&errors, topic->missing ? "the topic does not exist" : topic->npartitions > 0 ? NULL : topic->error);
		ps_column_add(&partitions, Int32GetDatum(topic->npartitions));
	}
	args[1] = ps_column_array(&numbers);
	args[2] = ps_column_array(&states);
	args[3] = ps_column_array(&errors);
	args[4] = ps_column_array(&partitions);
	n = ps_plan_run(&note_plan, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		char	   *error = ps_plan_text(i, 3);

		if (error == NULL)
			ereport(LOG, (errmsg("stream \"%s\" reads topic \"%s\" again", stream->name, ps_plan_text(i, 1))));
		else
			ereport(LOG, (errmsg("stream \"%s\" does not read topic \"%s\": %s", stream->name, ps_plan_text(i, 1), error)));
	}
}

bool
ps_stream_names_topic(const PsStream *stream, const char *topic)
{
	if (stream->topic != NULL && strcmp(stream->topic, topic) == 0)
		return true;
	for (int i = 0; i < stream->topics.n; i++)
		if (strcmp(stream->topics.texts[i], topic) == 0)
			return true;
	return false;
}

bool
ps_stream_takes_topic(const PsStream *stream, const char *topic)
{
	return ps_stream_names_topic(stream, topic) ||
		(stream->topic_pattern != NULL &&
		 DatumGetBool(DirectFunctionCall2Coll(textregexeq, C_COLLATION_OID, CStringGetTextDatum(topic), CStringGetTextDatum(stream->topic_pattern))));
}
