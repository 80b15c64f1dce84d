/*
 * dead_letters.c
 *	  Writes rows of dead_letters, with one statement for each batch.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/text.h"
#include "mb/pg_wchar.h"
#include "store/dead_letter_outbox.h"
#include "store/dead_letters.h"
#include "store/plan.h"
#include "store/rebuild_schema.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

enum
{
	TOPIC, EPOCH, PARTITION, OFFSET, TIMESTAMP, KEY, VALUE, HEADERS, KIND, ERRORS, SQLSTATE, CUSTOMER, EVENT, TYPE, SIZE,
	NCOLUMNS
};

/* errors come as jsonb, one for each dead letter, because an array of arrays must be rectangular */
static PsPlan add_plan = {
	"INSERT INTO profile_stream_internal.dead_letters (stream_id, stream, dead_at,"
	" topic, epoch, partition, kafka_offset, kafka_timestamp, key, value, headers, kind, errors, sqlstate,"
	" customer_id, event_id, event_type, value_size)"
	" SELECT $16, $17, $18, d.topic, d.epoch, d.partition, d.kafka_offset, d.kafka_timestamp, d.key, d.value, d.headers,"
	" d.kind, ARRAY(SELECT pg_catalog.jsonb_array_elements_text(d.errors)), d.sqlstate,"
	" d.customer_id, d.event_id, d.event_type, d.value_size"
	" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),"
	" pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8),"
	" pg_catalog.unnest($9), pg_catalog.unnest($10), pg_catalog.unnest($11), pg_catalog.unnest($12),"
	" pg_catalog.unnest($13), pg_catalog.unnest($14), pg_catalog.unnest($15)) AS d(topic, epoch, partition, kafka_offset, kafka_timestamp, key, value, headers, kind, errors, sqlstate,"
	" customer_id, event_id, event_type, value_size)"
	" ON CONFLICT (stream_id, topic, epoch, partition, kafka_offset) DO NOTHING RETURNING dead_letter_id",
	18, {TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, BYTEAARRAYOID, BYTEAARRAYOID, JSONBARRAYOID,
		TEXTARRAYOID, JSONBARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID,
	INT4OID, TEXTOID, TIMESTAMPTZOID}
};

/* counts the dead letters that exist; one without an offset is new each time */
static PsPlan count_plan = {
	"SELECT pg_catalog.count(*) FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4))"
	" AS k(topic, epoch, partition, kafka_offset)"
	" JOIN profile_stream_internal.dead_letters d ON d.stream_id = $5 AND d.topic = k.topic AND d.epoch = k.epoch AND d.partition = k.partition"
	" AND d.kafka_offset = k.kafka_offset",
	5, {TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT4OID}
};

/* Pushes text, or null when jsonb cannot hold it. */
static void
push_text(JsonbParseState **state, JsonbIteratorToken token, const char *text, int len)
{
	JsonbValue	value;

	if (text == NULL || pg_encoding_verifymbstr(PG_UTF8, text, len) != len ||
		memchr(text, 0, len) != NULL)
		value.type = jbvNull;
	else
	{
		value.type = jbvString;
		value.val.string.val = unconstify(char *, text);
		value.val.string.len = len;
	}
	pushJsonbValue(state, token, &value);
}

/* The errors as a jsonb array of texts. */
static Datum
errors_jsonb(const PsReject *reject)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < reject->nerrors; i++)
	{
		char	   *error = ps_text_of_error(reject->errors[i]);

		push_text(&state, WJB_ELEM, error, strlen(error));
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}

/* An array of {name, value} or {name, hex}: names repeat, values are bytes. */
Datum
ps_headers_jsonb(const PsMessage *message)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < message->nheaders; i++)
	{
		const PsHeader *header = &message->headers[i];
		bool		is_text = true;

		if (header->value != NULL)
			is_text = pg_encoding_verifymbstr(PG_UTF8, header->value, header->value_len) == header->value_len &&
				memchr(header->value, 0, header->value_len) == NULL;
		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		push_text(&state, WJB_KEY, "name", 4);
		push_text(&state, WJB_VALUE, header->name, strlen(header->name));
		if (is_text)
		{
			push_text(&state, WJB_KEY, "value", 5);
			push_text(&state, WJB_VALUE, header->value, header->value_len);
		}
		else
		{
			char	   *hex = palloc(2 * header->value_len + 1);

			hex[hex_encode(header->value, header->value_len, hex)] = '\0';
			push_text(&state, WJB_KEY, "hex", 3);
			push_text(&state, WJB_VALUE, hex, strlen(hex));
		}
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}

/* Adds one dead letter to the columns. */
static void
add_letter(PsColumn *columns, const PsDeadLetter *letter)
{
	const PsMessage *message = letter->message;
	const PsEvent *event = letter->event;

	ps_column_add_text(&columns[TOPIC], message->topic);
	if (message->partition >= 0)
	{
		ps_column_add(&columns[EPOCH], Int32GetDatum(message->epoch));
		ps_column_add(&columns[PARTITION], Int32GetDatum(message->partition));
		ps_column_add(&columns[OFFSET], Int64GetDatum(message->offset));
	}
	else
	{
		ps_column_add_null(&columns[EPOCH]);
		ps_column_add_null(&columns[PARTITION]);
		ps_column_add_null(&columns[OFFSET]);
	}
	ps_column_add_time(&columns[TIMESTAMP], message->kafka_timestamp);
	ps_column_add_bytes(&columns[KEY], message->key, message->key_len);
	ps_column_add_bytes(&columns[VALUE], message->value, message->value_len);
	if (message->nheaders > 0)
		ps_column_add(&columns[HEADERS], ps_headers_jsonb(message));
	else
		ps_column_add_null(&columns[HEADERS]);
	ps_column_add_text(&columns[KIND], letter->reject->kind);
	ps_column_add(&columns[ERRORS], errors_jsonb(letter->reject));
	ps_column_add_text(&columns[SQLSTATE], letter->reject->sqlstate);
	ps_column_add_text(&columns[CUSTOMER], event ? event->customer_id : NULL);
	ps_column_add_text(&columns[EVENT], event ? event->event_id : NULL);
	ps_column_add_text(&columns[TYPE], event ? event->event_type : NULL);
	if (message->value_cut > 0)
		ps_column_add(&columns[SIZE], Int64GetDatum(message->value_len + message->value_cut));
	else
		ps_column_add_null(&columns[SIZE]);
}

/* Adds the dead letters of the last statement to those that the stream's topic shall get. */
static void
note_added(int stream_id, int n)
{
	PsColumn	ids;

	ps_column_init(&ids, INT8OID, n);
	for (int i = 0; i < n; i++)
	{
		bool		isnull;

		ps_column_add(&ids, SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	ps_dead_letter_outbox_add(stream_id, ps_column_array(&ids));
}

/* Raises when a dead letter was neither added nor there before: a message without any row would be lost. */
static void
check_present(Datum *args, int stream_id, int added, int n)
{
	Datum		keys[5] = {args[TOPIC], args[EPOCH], args[PARTITION], args[OFFSET], Int32GetDatum(stream_id)};
	int64		present;

	if (added == n)
		return;
	CommandCounterIncrement();
	present = stream_id == 0 ? added : ps_plan_number(&count_plan, keys);
	if (present < n)
		ps_plan_complain("dead_letters", n - present, n);
}

void
ps_dead_letters_add(const PsDeadLetter *letters, int n,
					const PsDeadLetterSource *source, TimestampTz now)
{
	static const Oid types[NCOLUMNS] = {
		TEXTOID, INT4OID, INT4OID, INT8OID, TIMESTAMPTZOID, BYTEAOID, BYTEAOID, JSONBOID,
		TEXTOID, JSONBOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID
	};
	PsColumn	columns[NCOLUMNS];
	Datum		args[NCOLUMNS + 3];
	char		nulls[NCOLUMNS + 3];
	int			added;

	if (n == 0)
		return;
	for (int c = 0; c < NCOLUMNS; c++)
		ps_column_init(&columns[c], types[c], n);
	for (int i = 0; i < n; i++)
		add_letter(columns, &letters[i]);
	for (int c = 0; c < NCOLUMNS; c++)
		args[c] = ps_column_array(&columns[c]);
	memset(nulls, ' ', sizeof(nulls));
	if (source->stream_id == 0)
		nulls[NCOLUMNS] = nulls[NCOLUMNS + 1] = 'n';
	else
	{
		args[NCOLUMNS] = Int32GetDatum(source->stream_id);
		args[NCOLUMNS + 1] = CStringGetTextDatum(source->stream);
	}
	args[NCOLUMNS + 2] = TimestampTzGetDatum(now);
	added = ps_plan_run(&add_plan, args, nulls, SPI_OK_INSERT_RETURNING);
	/* a rebuild delivers nothing */
	if (added > 0 && source->stream_id != 0 && !ps_rebuild_schema_used())
		note_added(source->stream_id, added);
	check_present(args, source->stream_id, added, n);
}
