/*
 * dead_letter_outbox.c
 *	  The SQL of dead_letter_outbox, which has a row for each dead letter that is not
 *	  delivered. The greatest delivered id would not do: transactions with smaller ids
 *	  may commit later.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/dead_letter_outbox.h"
#include "store/distributed.h"
#include "store/plan.h"
#include "store/shards.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static PsPlan add_plan = {
	"INSERT INTO profile_stream_internal.dead_letter_outbox (stream_id, dead_letter_id)"
	" SELECT k.stream_id, pg_catalog.unnest($2) FROM profile_stream_internal.stream_sinks k WHERE k.stream_id = $1 AND k.content = 'dead_letters'",
	2, {INT4OID, INT8ARRAYOID}
};

static PsPlan refill_plan = {
	"WITH o AS (INSERT INTO profile_stream_internal.dead_letter_outbox (stream_id, dead_letter_id)"
	" SELECT $1, d.dead_letter_id FROM profile_stream_internal.dead_letters d WHERE d.stream_id = $1"
	" ON CONFLICT (dead_letter_id) DO NOTHING RETURNING 1) SELECT pg_catalog.count(*) FROM o",
	1, {INT4OID}
};

/* headers of the message, then those that Kafka Connect adds, then our own */
static PsPlan read_plan = {
	"SELECT x.dead_letter_id, x.key, x.value, h.names, h.contents, x.dead_at"
	" FROM (SELECT d.*, pg_catalog.sum(COALESCE(pg_catalog.octet_length(d.value), 0)) OVER (ORDER BY d.dead_letter_id)"
	"  - COALESCE(pg_catalog.octet_length(d.value), 0) AS before"
	"  FROM (SELECT l.* FROM profile_stream_internal.dead_letter_outbox q JOIN profile_stream_internal.dead_letters l ON l.dead_letter_id = q.dead_letter_id"
	"   WHERE q.stream_id = $1 ORDER BY q.dead_letter_id LIMIT $2) d) x"
	" CROSS JOIN LATERAL (SELECT pg_catalog.array_agg(m.name ORDER BY m.place) AS names, pg_catalog.array_agg(m.content ORDER BY m.place) AS contents"
	"  FROM (SELECT e.place, COALESCE(e.header ->> 'name', '') AS name,"
	"    CASE WHEN e.header ? 'hex' THEN pg_catalog.decode(e.header ->> 'hex', 'hex') ELSE pg_catalog.convert_to(e.header ->> 'value', 'UTF8') END AS content"
	"   FROM pg_catalog.jsonb_array_elements(x.headers) WITH ORDINALITY AS e(header, place)"
	"   UNION ALL SELECT 1000000 + c.place, c.name, pg_catalog.convert_to(c.content, 'UTF8') FROM (VALUES"
	"    (1, '__connect.errors.topic', x.topic),"
	"    (2, '__connect.errors.partition', x.partition::text),"
	"    (3, '__connect.errors.offset', x.kafka_offset::text),"
	"    (4, '__connect.errors.connector.name', x.stream),"
	"    (5, '__connect.errors.stage', CASE x.kind WHEN 'handler' THEN 'HANDLER' WHEN 'late' THEN 'LATE' ELSE 'VALIDATE' END),"
	"    (6, '__connect.errors.class.name', 'profile_stream'),"
	"    (7, '__connect.errors.exception.class.name', 'profile_stream.' || x.kind),"
	"    (8, '__connect.errors.exception.message', pg_catalog.array_to_string(x.errors, '; ')),"
	"    (9, 'profile_stream.errors', pg_catalog.to_jsonb(x.errors)::text),"
	"    (10, 'profile_stream.dead_letter_id', x.dead_letter_id::text),"
	"    (11, 'profile_stream.value_size', x.value_size::text),"
	"    (12, 'profile_stream.node', $4)) AS c(place, name, content) WHERE c.content IS NOT NULL) m) h"
	" WHERE x.before < $3 ORDER BY x.dead_letter_id",
	4, {INT4OID, INT8OID, INT8OID, TEXTOID}
};

/* dead letters that were repaired, discarded or removed for their age */
static PsPlan gone_plan = {
	"DELETE FROM profile_stream_internal.dead_letter_outbox q WHERE q.stream_id = $1 AND NOT EXISTS"
	" (SELECT FROM profile_stream_internal.dead_letters d WHERE d.dead_letter_id = q.dead_letter_id)",
	1, {INT4OID}
};

static PsPlan delivered_plan = {
	"DELETE FROM profile_stream_internal.dead_letter_outbox q WHERE q.stream_id = $1 AND q.dead_letter_id = ANY ($2)",
	2, {INT4OID, INT8ARRAYOID}
};

void
ps_dead_letter_outbox_add(int stream_id, Datum ids)
{
	Datum		args[2] = {Int32GetDatum(stream_id), ids};

	(void) ps_plan_run(&add_plan, args, NULL, SPI_OK_INSERT);
}

int64
ps_dead_letter_outbox_resync(int stream_id)
{
	Datum		args[1] = {Int32GetDatum(stream_id)};

	return ps_plan_number(&refill_plan, args);
}

/* Copies bytes out of a row; NULL when null. */
static char *
copy_content(Datum content, bool isnull, int *len)
{
	bytea	   *bytes;
	char	   *copy;

	*len = 0;
	if (isnull)
		return NULL;
	bytes = DatumGetByteaPP(content);
	*len = VARSIZE_ANY_EXHDR(bytes);
	copy = palloc(*len + 1);
	memcpy(copy, VARDATA_ANY(bytes), *len);
	return copy;
}

/* Reads the headers of a row into the message. */
static void
read_headers(PsMessage *message, HeapTuple row)
{
	Datum	   *names;
	Datum	   *contents;
	bool	   *nulls;
	PsHeader   *headers;
	bool		isnull;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(SPI_getbinval(row, SPI_tuptable->tupdesc, 4, &isnull)),
					  TEXTOID, -1, false, TYPALIGN_INT, &names, NULL, &n);
	deconstruct_array(DatumGetArrayTypeP(SPI_getbinval(row, SPI_tuptable->tupdesc, 5, &isnull)),
					  BYTEAOID, -1, false, TYPALIGN_INT, &contents, &nulls, &n);
	headers = palloc0(n * sizeof(PsHeader));
	for (int i = 0; i < n; i++)
	{
		headers[i].name = TextDatumGetCString(names[i]);
		headers[i].value = copy_content(contents[i], nulls[i], &headers[i].value_len);
	}
	message->headers = headers;
	message->nheaders = n;
}

int
ps_dead_letter_outbox_read(int stream_id, int limit, int64 bytes, PsMessage **messages, Datum *ids, TimestampTz **dead_at)
{
	bool		of_node = ps_distributed();
	Datum		args[4] = {Int32GetDatum(stream_id), Int64GetDatum(limit), Int64GetDatum(bytes), of_node ? CStringGetTextDatum(psprintf("%d", ps_shards_group())) : (Datum) 0};
	int			n = ps_plan_run(&read_plan, args, of_node ? NULL : "   n", SPI_OK_SELECT);
	TupleDesc	columns = SPI_tuptable->tupdesc;
	PsColumn	read;

	*messages = palloc0(Max(n, 1) * sizeof(PsMessage));
	*dead_at = palloc(Max(n, 1) * sizeof(TimestampTz));
	ps_column_init(&read, INT8OID, n);
	for (int i = 0; i < n; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		PsMessage  *message = &(*messages)[i];
		Datum		value;
		bool		isnull;

		ps_column_add(&read, SPI_getbinval(row, columns, 1, &isnull));
		value = SPI_getbinval(row, columns, 2, &isnull);
		message->key = copy_content(value, isnull, &message->key_len);
		value = SPI_getbinval(row, columns, 3, &isnull);
		message->value = copy_content(value, isnull, &message->value_len);
		read_headers(message, row);
		(*dead_at)[i] = DatumGetTimestampTz(SPI_getbinval(row, columns, 6, &isnull));
	}
	*ids = ps_column_array(&read);
	SPI_freetuptable(SPI_tuptable);
	if (n == 0)
		(void) ps_plan_run(&gone_plan, args, NULL, SPI_OK_DELETE);
	return n;
}

void
ps_dead_letter_outbox_delivered(int stream_id, Datum ids)
{
	Datum		args[2] = {Int32GetDatum(stream_id), ids};

	(void) ps_plan_run(&delivered_plan, args, NULL, SPI_OK_DELETE);
}
