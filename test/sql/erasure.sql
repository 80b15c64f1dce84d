-- forget_customer(), unblock_customer(), export_customer(): what goes, what stays, and what is blocked
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
CREATE FUNCTION public.ev(id text, customer text, at text DEFAULT '2024-01-02T00:00:00Z', amount text DEFAULT '1') RETURNS jsonb LANGUAGE sql
	RETURN jsonb_build_object('eventId', id, 'customerId', customer, 'eventType', 'transaction.completed', 'timestamp', at,
		'payload', jsonb_build_object('amount', amount));

-- bytes that name a customer
SELECT message, customer, in_strings, profile_stream_internal.contains_id(message::bytea, customer, in_strings) AS mentions,
	encode(profile_stream_internal.redact_id(message::bytea, customer, in_strings), 'escape') AS without
FROM (VALUES
	('{"customerId":"c1"}', 'c1', false), ('{"customerId":"c10"}', 'c1', false), ('ac1 c1 c1b c1', 'c1', false), ('c-c1_x', 'c1', false),
	('\\u00631, c\\u0031, \\u0063\\u0031', 'c1', false), ('"\\nc1"', 'c1', false), ('"a\\/b"', 'a/b', false), ('"a\\"b"', 'a"b', false),
	('"jos\\u00e9" "jos\\u00E9"', 'josé', false), ('"\\ud83d\\ude00"', '😀', false), ('a\\nb', 'a\nb', false), ('trailing \\u006', 'n6', false),
	('{"amount":42,"to":"42","42":1}', '42', true), ('{"amount":42,"to":"42"}', '42', false), ('{"a":"\\"42\\" \\n42"}', '42', true),
	('{"a":"\\n1"}', 'n1', true), ('+49', '+49', false), ('1+49', '+49', false), ('', 'c1', false)
) v (message, customer, in_strings);
SELECT profile_stream_internal.contains_id('\x0004633148', 'c1', false) AS bytes, profile_stream_internal.contains_id('\xff6331ff', 'c1', false) AS no_utf8,
	profile_stream_internal.contains_id('c1'::bytea, '', false) AS empty;
SELECT value, profile_stream_internal.message_customer(value::bytea) FROM (VALUES
	('{"customerId":"c1"}'), ('{"customerId":17,"x":'), ('{"a":1 "customerId" : "c\\u0031"'), ('{"a":1 "customerId":12x'), ('{"a":1 "customerId":"c1'),
	('{"customerId":""}'), ('{"customerId":{}}'), ('{"customerId":"a","customerId":"b"}'), ('{"payload":{"customerId":"x"}}'), ('customerId'), ('"customerId"'), ('')) v (value);
SELECT profile_stream_internal.message_customer('\x7b22637573746f6d65724964223a22ff227d') IS NULL;

-- two customers, with sealed chunks, folded days and dead letters
SELECT outcome, count(*) FROM unnest(profile_stream.apply_events(ARRAY(
	SELECT public.ev('e' || i, c, to_jsonb(timestamptz '2024-01-01Z' + i * interval '1 hour') #>> '{}') FROM generate_series(1, 200) i, unnest('{c1,c2}'::text[]) c))) outcome GROUP BY 1;
SELECT profile_stream.prune_metrics('2024-02-03Z') > 0;
SELECT outcome, count(*) FROM unnest(profile_stream.apply_events(ARRAY(
	SELECT public.ev('f' || i, c, to_jsonb(timestamptz '2024-02-03Z' + i * interval '1 hour') #>> '{}') FROM generate_series(1, 200) i, unnest('{c1,c2}'::text[]) c))) outcome GROUP BY 1;
SELECT profile_stream.apply_event(public.ev('x1', 'c1', 'never')), profile_stream.apply_event(public.ev('x2', 'c1', amount => 'much')),
	profile_stream.apply_event(public.ev('x3', 'c2', 'never')), profile_stream.apply_event(public.ev('c1-x4', 'c2', amount => 'of c1')),
	profile_stream.apply_event(public.ev('x5', 'c10', 'never'));
INSERT INTO profile_stream_internal.dead_letters (key, value, headers, kind, errors, event_id, dead_at)
VALUES ('c1', 'none of yours', NULL, 'malformed', '{Malformed JSON}', NULL, now()),
	('k', '\x006331', NULL, 'malformed', '{Malformed JSON}', NULL, now()),
	(NULL, '{"customerId": "c1"', NULL, 'malformed', '{Malformed JSON}', NULL, now()),
	(NULL, 'who is it?', '[{"name": "who", "value": "c1"}]', 'malformed', '{Malformed JSON}', NULL, now()),
	(NULL, 'who is it?', '[{"name": "who", "hex": "ff6331"}]', 'malformed', '{Malformed JSON}', NULL, now()),
	(NULL, 'who is it?', NULL, 'malformed', '{"Malformed JSON: token c1"}', NULL, now()),
	('k', '{"customerId": "c2", "from": "c1", "amount": 1', '[{"name": "who", "hex": "ff6331"}, {"name": "c1", "value": null}]', 'malformed', '{one,"not \"c1\""}', 'c1', now()),
	('c10', '{"customerId": "c10", "x": "c1x"', NULL, 'malformed', '{Malformed JSON}', NULL, now());
CREATE TEMP TABLE others AS SELECT p::text FROM profile_stream.materialized_profiles p WHERE customer_id <> 'c1'
	UNION ALL SELECT c::text FROM profile_stream_internal.window_chunks c WHERE customer_id <> 'c1' UNION ALL SELECT e::text FROM profile_stream_internal.event_ids e WHERE customer_id <> 'c1';

-- everything that is held
CREATE TEMP TABLE export AS SELECT profile_stream.export_customer('c1') AS e;
SELECT e ->> 'customerId' AS customer, e -> 'blocked' AS blocked, e -> 'pending' AS pending, (e -> 'profile') - 'event_counts' AS profile, e -> 'profile' -> 'event_counts' AS counts FROM export;
SELECT jsonb_array_length(e -> 'eventIds') AS ids, (SELECT count(*) FROM profile_stream_internal.event_id_chunks WHERE customer_id = 'c1') AS chunks,
	(SELECT count(DISTINCT i ->> 'hash') FROM jsonb_array_elements(e -> 'eventIds') i) AS hashes, e -> 'eventIds' -> 0 ? 'appliedAt' AS times,
	e -> 'eventIds' @> jsonb_build_array(jsonb_build_object('hash', encode(profile_stream_internal.event_id_hash('e1'), 'hex'))) AS first_id FROM export;
SELECT jsonb_array_length(e -> 'samples') + (SELECT sum(jsonb_array_length(c -> 'samples')) FROM jsonb_array_elements(e -> 'chunks') c) AS samples,
	(SELECT sum((d ->> 'count')::int) FROM jsonb_array_elements(e -> 'chunks') c, jsonb_array_elements(CASE WHEN jsonb_typeof(c -> 'days') = 'array' THEN c -> 'days' ELSE '[]' END) d) AS folded,
	(SELECT min(s ->> 'at') FROM jsonb_array_elements(e -> 'samples') s) > '2024-02-03' AS recent, e -> 'samples' -> 0 ->> 'series' AS series FROM export;
SELECT d ->> 'kind' AS kind, d ->> 'key_text' AS key, left(d ->> 'value_text', 60) AS value, d -> 'event' ->> 'eventId' AS event, d ->> 'errors' AS errors FROM export, jsonb_array_elements(e -> 'deadLetters') d;
SELECT e -> 'rebuild' AS rebuild FROM export;
SELECT profile_stream.export_customer('nobody') - 'exportedAt' - 'rebuild';

-- it goes, and nothing of the others
SELECT * FROM profile_stream.forget_customer('c1');
SELECT e - 'exportedAt' FROM profile_stream.export_customer('c1') e;
SELECT p::text FROM profile_stream.materialized_profiles p WHERE customer_id <> 'c1' UNION ALL SELECT c::text FROM profile_stream_internal.window_chunks c
	UNION ALL SELECT e::text FROM profile_stream_internal.event_ids e EXCEPT ALL SELECT * FROM others;
SELECT (SELECT count(*) FROM others) = (SELECT count(*) FROM profile_stream.materialized_profiles) + (SELECT count(*) FROM profile_stream_internal.window_chunks)
	+ (SELECT count(*) FROM profile_stream_internal.event_ids) AS all_there;
SELECT customer_id, event_id, key_text, value_text, headers, errors FROM profile_stream.dead_letters ORDER BY dead_letter_id;
SELECT * FROM profile_stream.forget_customer('c1');
SELECT * FROM profile_stream.forget_customer('nobody');
SELECT customer_hash FROM profile_stream_internal.blocked_customers;
SELECT salt FROM profile_stream_internal.blocking_salt;

-- without block a later event makes a new profile, with an id that was seen before
SELECT profile_stream.apply_event(public.ev('e1', 'c1'));
SELECT version FROM profile_stream.materialized_profiles WHERE customer_id = 'c1';

-- with block nothing of the customer is taken, valid or not
SELECT * FROM profile_stream.forget_customer('c1', block => true);
SELECT profile_stream.apply_events(ARRAY[public.ev('e1', 'c1'), public.ev('n1', 'c3'), public.ev('e2', 'c1', 'never'), public.ev('n1', 'c3'), NULL,
	'{"customerId": "c1"}', public.ev('e3', 'c1', amount => 'much'), public.ev('n2', 'c3', amount => 'much'), '{"customerId": "c4"}']);
SELECT profile_stream.apply_event(public.ev('e4', 'c1')), profile_stream.apply_event(public.ev('e4', 'c11'));
SELECT customer_id, version FROM profile_stream.materialized_profiles ORDER BY 1;
SELECT e - 'exportedAt' - 'rebuild' FROM profile_stream.export_customer('c1') e;
SELECT octet_length(salt), customer_hash = sha256(salt || 'c1'), blocked_at = now() OR blocked_at < now() FROM profile_stream_internal.blocking_salt, profile_stream_internal.blocked_customers;
-- a letter that turns out to be of a blocked customer goes
TRUNCATE profile_stream_internal.dead_letters;
INSERT INTO profile_stream_internal.dead_letters (value, kind, errors, dead_at) VALUES ('{"id": "o1"}', 'invalid', '{Missing}', now()), ('{"id": "o2"}', 'invalid', '{Missing}', now());
CREATE FUNCTION public.owns(event jsonb) RETURNS jsonb LANGUAGE sql
	RETURN public.ev(event ->> 'id', CASE event ->> 'id' WHEN 'o1' THEN 'c' || '1' ELSE 'c3' END);
SELECT applied, duplicates, failed, kept, blocked FROM profile_stream.retry_dead_letters(transform => 'public.owns(jsonb)');
SELECT count(*) FROM profile_stream.dead_letters;
-- another one has the same salt; forgetting again does not unblock
SELECT blocked FROM profile_stream.forget_customer('c3', true);
SELECT blocked FROM profile_stream.forget_customer('c1');
SELECT count(DISTINCT salt), count(*) FROM profile_stream_internal.blocking_salt, profile_stream_internal.blocked_customers;
SELECT profile_stream.unblock_customer('c1'), profile_stream.unblock_customer('c1'), profile_stream.unblock_customer('nobody');
SELECT profile_stream.apply_events(ARRAY[public.ev('e1', 'c1'), public.ev('e1', 'c3')]);

-- both copies of the tables
INSERT INTO profile_stream_rebuild.materialized_profiles SELECT * FROM profile_stream.materialized_profiles;
INSERT INTO profile_stream_rebuild.event_id_chunks SELECT * FROM profile_stream_internal.event_id_chunks;
INSERT INTO profile_stream_rebuild.dead_letters (value, kind, errors, dead_at) VALUES ('{"customerId": "c1"}', 'invalid', '{Missing}', now()), ('{"customerId": "c2"}', 'invalid', '{"{c1}"}', now());
SELECT e -> 'rebuild' -> 'profile' ->> 'customer_id' AS profile, jsonb_array_length(e -> 'rebuild' -> 'eventIds') AS ids,
	jsonb_array_length(e -> 'rebuild' -> 'deadLetters') AS letters FROM profile_stream.export_customer('c1') e;
SELECT * FROM profile_stream.forget_customer('c1');
SELECT e -> 'rebuild' FROM profile_stream.export_customer('c1') e;
SELECT customer_id FROM profile_stream_rebuild.materialized_profiles;
SELECT errors FROM profile_stream_rebuild.dead_letters;
TRUNCATE profile_stream_rebuild.materialized_profiles, profile_stream_rebuild.event_id_chunks, profile_stream_rebuild.dead_letters;

-- what streams and sinks have said, and what is announced
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', redis => '127.0.0.1:1', notify_channel => 'others');
SELECT profile_stream.create_stream('q', bootstrap_servers => '127.0.0.1:1', notify_channel => 'quiet', notify => 'off');
UPDATE profile_stream_internal.stream_status SET error = 'no more for customer "c1"', hint = 'c10';
INSERT INTO profile_stream_internal.stream_offsets (stream_id, partition, start_offset, next_offset, read_offset, error) SELECT stream_id, 0, 0, 0, 0, 'c1.' FROM profile_stream.streams WHERE name = 's';
INSERT INTO profile_stream_internal.sink_status (stream_id, sink, state, error) SELECT stream_id, 'redis', 'retrying', 'c1?' FROM profile_stream.streams WHERE name = 's';
SELECT profile_stream.forget_customer('c1') IS NOT NULL;
SELECT t.error, t.hint, o.error, k.error FROM profile_stream_internal.stream_status t JOIN profile_stream.streams s USING (stream_id)
	JOIN profile_stream_internal.stream_offsets o USING (stream_id) JOIN profile_stream_internal.sink_status k USING (stream_id) WHERE s.name = 's';
SELECT s.name, o.sink, o.customer_ids FROM profile_stream_internal.outbox o JOIN profile_stream.streams s USING (stream_id);
SELECT e -> 'pending' FROM profile_stream.export_customer('c1') e;
DELETE FROM profile_stream.streams;
DELETE FROM profile_stream_internal.outbox;
DELETE FROM profile_stream_internal.sink_status;
COMMIT;
-- who may, and what is refused
\set VERBOSITY terse
SELECT profile_stream.forget_customer('');
SELECT profile_stream.export_customer('');
SELECT profile_stream.forget_customer(NULL) IS NULL;
SELECT profile_stream.forget_customer(repeat('x', 9000)) IS NOT NULL;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT profile_stream.forget_customer('c1');
ROLLBACK;
BEGIN READ ONLY;
SELECT profile_stream.forget_customer('c1');
ROLLBACK;
BEGIN READ ONLY;
SELECT profile_stream.export_customer('c1') ->> 'customerId';
ROLLBACK;
SET ROLE profile_stream_reader;
SELECT profile_stream.forget_customer('c1');
SELECT profile_stream.unblock_customer('c1');
SELECT profile_stream.export_customer('c1');
SELECT * FROM profile_stream_internal.blocked_customers;
SELECT * FROM profile_stream_internal.blocking_salt;
RESET ROLE;
CREATE SCHEMA evil;
CREATE FUNCTION evil.convert_to(text, text) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;
GRANT USAGE ON SCHEMA evil TO profile_stream_operator;
SET ROLE profile_stream_operator;
SET search_path = evil, pg_catalog;
SELECT blocked FROM profile_stream.forget_customer('c2', true);
SELECT profile_stream.export_customer('c2') -> 'blocked';
SELECT profile_stream.apply_event('{"eventId": "e1", "customerId": "c2", "eventType": "x", "timestamp": "2024-01-02T00:00:00Z"}');
SELECT profile_stream.unblock_customer('c2');
RESET search_path;
RESET ROLE;
DROP SCHEMA evil CASCADE;
DROP FUNCTION public.ev, public.owns;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks, profile_stream_internal.blocked_customers;
