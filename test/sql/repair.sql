-- retry_dead_letters(), discard_dead_letters(): 1,000 letters of 5 kinds end as if they had been right from the start
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\set functions :srcdir '/event_ids.sql'
\i :functions
\set ECHO all
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
CREATE TEMP TABLE good AS SELECT i, jsonb_build_object('eventId', 'e' || i, 'customerId', 'c' || i % 40,
	'eventType', 'transaction.completed', 'timestamp', '2024-01-02T03:04:05Z', 'payload', jsonb_build_object('amount', i)) AS event
	FROM generate_series(1, 1000) i;
CREATE FUNCTION public.break_event(i int, event jsonb) RETURNS jsonb LANGUAGE sql RETURN CASE i % 5
	WHEN 0 THEN jsonb_set(event, '{payload,amount}', to_jsonb('EUR ' || (event #>> '{payload,amount}')))
	WHEN 1 THEN (event - 'customerId') || jsonb_build_object('customer', event -> 'customerId')
	WHEN 2 THEN event || '{"timestamp": "yesterday"}'
	WHEN 3 THEN event || '{"schemaVersion": 9}'
	ELSE (event - 'eventId') || jsonb_build_object('id', event -> 'eventId') END;
CREATE FUNCTION public.mend(event jsonb) RETURNS jsonb LANGUAGE sql RETURN
	jsonb_set(event, '{payload,amount}', to_jsonb(replace(event #>> '{payload,amount}', 'EUR ', '')::numeric))
	|| jsonb_build_object('customerId', COALESCE(event -> 'customerId', event -> 'customer'),
		'eventId', COALESCE(event -> 'eventId', event -> 'id'), 'timestamp', '2024-01-02T03:04:05Z', 'schemaVersion', 1);
SELECT outcome, count(*) FROM unnest(profile_stream.apply_events(ARRAY(SELECT public.break_event(i, event) FROM good ORDER BY i))) outcome GROUP BY 1;
SELECT stream, kind, errors[1] AS error, count(*) AS letters, min(dead_letter_id) IS NOT NULL AS example FROM profile_stream.dead_letters GROUP BY 1, 2, 3 ORDER BY letters, errors[1] COLLATE "C";
-- unchanged they fail again, and stay
SELECT applied, duplicates, failed, kept FROM profile_stream.retry_dead_letters(max_letters => 10);
SELECT attempts, failed_at IS NOT NULL AS failed_again, count(*) FROM profile_stream.dead_letters GROUP BY 1, 2 ORDER BY 1;
SELECT applied, duplicates, failed, kept FROM profile_stream.retry_dead_letters(transform => 'public.mend(jsonb)');
SELECT count(*) FROM profile_stream.dead_letters;
CREATE TEMP TABLE repaired AS SELECT customer_id, version, total_balance, last_transaction_at, event_counts,
	profile_stream.metric_value(customer_id, 'total_transaction_value_30d', '2024-01-03Z') AS value,
	profile_stream.metric_value(customer_id, 'transaction_count_30d', '2024-01-03Z') AS count FROM profile_stream.materialized_profiles;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
SELECT outcome, count(*) FROM unnest(profile_stream.apply_events(ARRAY(SELECT event FROM good ORDER BY i))) outcome GROUP BY 1;
SELECT count(*), sum(r.count), sum(r.value) FROM repaired r JOIN profile_stream.materialized_profiles p USING (customer_id)
	WHERE (r.version, r.total_balance, r.last_transaction_at, r.event_counts) IS NOT DISTINCT FROM
		(p.version, p.total_balance, p.last_transaction_at, p.event_counts)
	AND r.value = profile_stream.metric_value(customer_id, 'total_transaction_value_30d', '2024-01-03Z')
	AND r.count = profile_stream.metric_value(customer_id, 'transaction_count_30d', '2024-01-03Z');

-- a duplicate's letter goes; patch merges into the payload; a failing or declining transform keeps the letter
SELECT profile_stream.apply_event('{"eventId": "e1", "customerId": "c1", "eventType": "x", "timestamp": "never"}');
SELECT profile_stream.apply_event('{"eventId": "p1", "customerId": "p", "eventType": "transaction.completed", "timestamp": "2024-01-02T00:00:00Z", "payload": {"shop": 1}}');
SELECT applied, duplicates, failed, kept FROM profile_stream.retry_dead_letters(kind => 'invalid', patch => '{"timestamp": "2024-01-02T00:00:00Z"}');
CREATE FUNCTION public.fails(event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'no idea'; END $$;
CREATE FUNCTION public.declines(event text) RETURNS jsonb LANGUAGE sql RETURN NULL::jsonb;
SELECT applied, duplicates, failed, kept FROM profile_stream.retry_dead_letters(transform => 'public.fails(jsonb)');
SELECT applied, duplicates, failed, kept FROM profile_stream.retry_dead_letters(transform => 'public.declines(text)');
SELECT kind, errors, sqlstate, attempts, event -> 'payload' AS payload FROM profile_stream.dead_letters;
SELECT applied, duplicates, failed, kept FROM profile_stream.retry_dead_letters(patch => '{"payload": {"amount": 7}}');
SELECT profile_stream.metric_value('p', 'total_transaction_value_30d', '2024-01-03Z');

-- bytes that are no JSON, by a transform of text; a trigger that refuses one leaves the others alone
INSERT INTO profile_stream_internal.dead_letters (value, kind, errors, dead_at)
	SELECT convert_to('m' || i || '|ok', 'UTF8'), 'malformed', '{Malformed JSON}', now() FROM generate_series(1, 3) i;
INSERT INTO profile_stream_internal.dead_letters (value, kind, errors, dead_at) VALUES ('\xff00', 'malformed', '{Malformed JSON}', now());
SELECT value_text, event FROM profile_stream.dead_letters ORDER BY dead_letter_id;
CREATE FUNCTION public.parses(line text) RETURNS jsonb STRICT LANGUAGE sql RETURN jsonb_build_object('eventId', split_part(line, '|', 1),
	'customerId', split_part(line, '|', 1), 'eventType', 'x', 'timestamp', '2024-01-02T00:00:00Z');
CREATE FUNCTION public.refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not m2' USING ERRCODE = '23514'; END $$;
CREATE TRIGGER refuses BEFORE INSERT ON profile_stream.materialized_profiles FOR EACH ROW WHEN (NEW.customer_id = 'm2') EXECUTE FUNCTION public.refuses();
SELECT applied, duplicates, failed, kept FROM profile_stream.retry_dead_letters(transform => 'public.parses(text)');
SELECT value_text, kind, errors, sqlstate, attempts FROM profile_stream.dead_letters ORDER BY dead_letter_id;
DROP TRIGGER refuses ON profile_stream.materialized_profiles;
SELECT applied, duplicates, failed, kept FROM profile_stream.retry_dead_letters(sqlstate => '23514', transform => 'public.parses(text)');
SELECT profile_stream.discard_dead_letters(kind => 'late'), profile_stream.discard_dead_letters(kind => 'malformed');
SELECT count(*) FROM profile_stream.dead_letters;

-- an event of a type that the stream does not take is kept as it is; of several events of a message the others are applied
BEGIN;
SET LOCAL client_min_messages = error;
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', event_types => '{"paid, in cash",seen}');
INSERT INTO profile_stream_internal.dead_letters (stream_id, stream, topic, epoch, partition, kafka_offset, value, kind, errors, event_type, dead_at)
	SELECT s.stream_id, 's', 't', 0, 0, n, convert_to(format('{"eventId": "i%s", "customerId": "i", "eventType": "%s", "timestamp": "2024-01-02T00:00:00Z"}', n, type), 'UTF8'), 'late', '{late}', type, now()
	FROM profile_stream.streams s, unnest('{"paid, in cash",left,seen}'::text[]) WITH ORDINALITY t(type, n) WHERE s.name = 's';
SELECT applied, duplicates, failed, kept FROM profile_stream.retry_dead_letters('s');
SELECT event_type, attempts, failed_at FROM profile_stream.dead_letters;
SELECT applied, failed, kept FROM profile_stream.retry_dead_letters('s', patch => '{"eventType": "seen"}');
SELECT event_counts FROM profile_stream.materialized_profiles WHERE customer_id = 'i';
CREATE FUNCTION public.both(value bytea, key bytea, headers jsonb) RETURNS jsonb LANGUAGE sql AS
	$$ SELECT jsonb_agg(convert_from(value, 'UTF8')::jsonb || jsonb_build_object('eventId', 'both-' || type, 'eventType', type)) FROM unnest('{left,seen}'::text[]) type $$;
SELECT profile_stream.alter_stream('s', decoder => 'public.both');
INSERT INTO profile_stream_internal.dead_letters (stream_id, stream, topic, epoch, partition, kafka_offset, value, kind, errors, event_type, dead_at)
	SELECT s.stream_id, 's', 't', 0, 0, 4, convert_to('{"customerId": "i", "timestamp": "2024-01-02T00:00:00Z"}', 'UTF8'), 'late', '{late}', 'left', now()
	FROM profile_stream.streams s WHERE s.name = 's';
SELECT applied, duplicates, failed, kept FROM profile_stream.retry_dead_letters('s');
SELECT count(*) FROM profile_stream.dead_letters WHERE stream = 's';
ROLLBACK;

-- wrong arguments
\set VERBOSITY terse
SELECT profile_stream.retry_dead_letters(max_letters => 0);
SELECT profile_stream.retry_dead_letters(patch => '[]');
SELECT profile_stream.retry_dead_letters(transform => 'pg_catalog.length(text)');
SET ROLE profile_stream_reader;
SELECT profile_stream.retry_dead_letters();
SELECT profile_stream.discard_dead_letters();
RESET ROLE;
-- an operator retries with the operator's rights, in the transform too; dedupe_retention as long as a stream's
CREATE FUNCTION public.secret(event jsonb) RETURNS jsonb LANGUAGE sql RETURN event;
REVOKE ALL ON FUNCTION public.secret FROM PUBLIC;
SELECT profile_stream.apply_event('{"eventId": "o1", "customerId": "o", "eventType": "x", "timestamp": "never"}');
SET ROLE profile_stream_operator;
SELECT applied, duplicates, failed, kept FROM profile_stream.retry_dead_letters(transform => 'public.secret(jsonb)');
SELECT errors, sqlstate FROM profile_stream.dead_letters;
SELECT applied, duplicates, failed, kept FROM profile_stream.retry_dead_letters(patch => '{"timestamp": "2024-01-02T00:00:00Z"}');
RESET ROLE;
SELECT testing.age_event_ids('o', '10 days');
SELECT outcome FROM profile_stream_internal.retry_events('{"{\"eventId\": \"o1\", \"customerId\": \"o\", \"eventType\": \"x\", \"timestamp\": \"2024-01-02T00:00:00Z\"}"}', 20 * 86400000000);
DROP FUNCTION public.secret;
DROP FUNCTION public.break_event, public.mend, public.fails, public.declines, public.parses, public.refuses;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
