/*
 * topic_catalog.c
 *	  The SQL of stream_topics.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/plan.h"
#include "store/topic_catalog.h"

/* a number is never used again: rows stay as long as the stream */
static PsPlan add_plan = {
	"INSERT INTO profile_stream_internal.stream_topics (stream_id, topic_no, topic, joined_at)"
	" SELECT $1, (SELECT COALESCE(pg_catalog.max(t.topic_no) + 1, 0) FROM profile_stream_internal.stream_topics t WHERE t.stream_id = $1)"
	" + (pg_catalog.row_number() OVER (ORDER BY n.place))::int - 1, n.topic, pg_catalog.clock_timestamp()"
	" FROM pg_catalog.unnest($2) WITH ORDINALITY AS n(topic, place) WHERE NOT EXISTS"
	" (SELECT FROM profile_stream_internal.stream_topics t WHERE t.stream_id = $1 AND t.topic = n.topic)",
	2, {INT4OID, TEXTARRAYOID}
};

static PsPlan find_plan = {
	"SELECT t.topic_no, t.topic FROM profile_stream_internal.stream_topics t"
	" WHERE t.stream_id = $1 AND t.topic = ANY ($2) ORDER BY 1",
	2, {INT4OID, TEXTARRAYOID}
};

List *
ps_topics_number(const PsStream *stream)
{
	PsColumn	names;
	Datum		args[2] = {Int32GetDatum(stream->stream_id)};
	List	   *topics = NIL;
	uint64		n;

	ps_column_init(&names, TEXTOID, 1);
	ps_column_add_text(&names, stream->topic);
	args[1] = ps_column_array(&names);
	(void) ps_plan_run(&add_plan, args, NULL, SPI_OK_INSERT);
	n = ps_plan_run(&find_plan, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		PsTopic    *topic = palloc(sizeof(PsTopic));
		bool		isnull;

		topic->topic_no = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		topic->name = ps_plan_text(i, 2);
		topics = lappend(topics, topic);
	}
	return topics;
}
