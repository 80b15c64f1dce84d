-- what a producer may cost, what is made with the database's secret, and channels that nobody can guess
SET timezone = 'UTC';
\set VERBOSITY terse
SET client_min_messages = warning;

CREATE FUNCTION pg_temp.send(id text, event_type text, payload jsonb DEFAULT '{}', customer_id text DEFAULT 'c') RETURNS text LANGUAGE sql AS $$
	SELECT profile_stream.apply_event(jsonb_build_object('eventId', id, 'customerId', customer_id, 'eventType', event_type, 'timestamp', '2026-01-01T00:00:00Z', 'payload', payload));
$$;
-- what became of the events of a statement
CREATE FUNCTION pg_temp.tally(outcomes text[]) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(n || ' ' || outcome, ', ' ORDER BY outcome) FROM (SELECT outcome, count(*) AS n FROM unnest(outcomes) outcome GROUP BY 1) t;
$$;
CREATE VIEW public.types AS SELECT customer_id, count(*) AS types, sum(value::int) AS events, max(value::int) FILTER (WHERE key = 'other') AS other,
	sum(octet_length(key)) AS bytes FROM profile_stream.materialized_profiles, jsonb_each_text(event_counts) GROUP BY 1 ORDER BY 1;

-- event types: by number and by the bytes of their names; those that have a counter go on
SELECT pg_temp.tally(array_agg(pg_temp.send('n' || i, 't' || i))) FROM generate_series(1, 400) i;
SELECT pg_temp.tally(array_agg(pg_temp.send('b' || i, rpad('t' || i, 500, 'x'), '{}', 'long'))) FROM generate_series(1, 100) i;
SELECT * FROM public.types;
SELECT pg_temp.send('n-1', 't1'), pg_temp.send('n-2', 't256'), pg_temp.send('n-3', 't400'), pg_temp.send('n-4', 'other');
SELECT * FROM public.types WHERE customer_id = 'c';
SELECT event_counts -> 't1' AS t1, event_counts -> 't256' AS t256, event_counts -> 't400' AS t400 FROM profile_stream.materialized_profiles WHERE customer_id = 'c';
-- in one transaction, too; and one who has more of them than he may keeps them
SELECT pg_temp.tally(profile_stream.apply_events(array_agg(jsonb_build_object('eventId', i, 'customerId', 'once', 'eventType', 't' || i, 'timestamp', '2026-01-01')))) FROM generate_series(1, 1000) i;
UPDATE profile_stream.materialized_profiles SET event_counts = (SELECT jsonb_object_agg('old' || i, i) FROM generate_series(1, 300) i) WHERE customer_id = 'long';
SELECT pg_temp.send('o1', 'old7', '{}', 'long'), pg_temp.send('o2', 'new', '{}', 'long');
SELECT customer_id, types, events, other FROM public.types;
SELECT event_counts -> 'old7' AS old7 FROM profile_stream.materialized_profiles WHERE customer_id = 'long';

-- values that a profile takes, and attributes of all of them
SELECT profile_stream.map_attribute('tagged', 'tags', '$.tag', 'append_unique', max_items => 1000), profile_stream.map_attribute('tagged', 'tag', '$.tag');
SELECT pg_temp.send('v1', 'tagged', jsonb_build_object('tag', repeat('x', 16384)), 'v'), pg_temp.send('v2', 'tagged', jsonb_build_object('tag', repeat('x', 16385)), 'v'),
	pg_temp.send('v3', 'customer.profile.updated', jsonb_build_object('firstName', repeat('x', 16385)), 'v');
SELECT errors FROM profile_stream.dead_letters ORDER BY dead_letter_id;
SELECT pg_temp.tally(array_agg(pg_temp.send('w' || i, 'tagged', jsonb_build_object('tag', rpad(i::text, 16000, 'x')), 'v'))) FROM generate_series(1, 14) i;
SELECT pg_temp.send('w15', 'tagged', jsonb_build_object('tag', rpad('15', 16000, 'x')), 'v');
SELECT pg_temp.send('w16', 'tagged', '{"tag": "short"}', 'v');
SELECT jsonb_array_length(attributes -> 'tags') AS tags, length(attributes::text) < 262144 AS small FROM profile_stream.materialized_profiles WHERE customer_id = 'v';
CREATE FUNCTION public.many(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql RETURN
	jsonb_build_object('attributes', (SELECT jsonb_object_agg('a' || i, i) FROM generate_series(1, (event #>> '{payload,n}')::int) i));
SELECT profile_stream.register_handler('many', 'public.many(jsonb,jsonb)');
SELECT pg_temp.send('m1', 'many', '{"n": 1000}', 'm'), pg_temp.send('m2', 'many', '{"n": 1001}', 'm');
SELECT profile_stream.unregister_handler('many', 'public.many(jsonb,jsonb)'), profile_stream.unmap_attribute('tagged', 'tags'), profile_stream.unmap_attribute('tagged', 'tag');
DROP FUNCTION public.many(jsonb, jsonb);

-- errors of functions
CREATE FUNCTION public.talks(event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE '%', repeat('ü', 1000000); END $$;
SELECT failed FROM profile_stream.retry_dead_letters(transform => 'public.talks(jsonb)');
SELECT DISTINCT left(errors[1], 20) AS error, octet_length(errors[1]) < 2000 AS small FROM profile_stream.dead_letters;
DROP FUNCTION public.talks(jsonb);

-- of a value of which only the begin is kept nothing is applied, whatever that begin says
INSERT INTO profile_stream_internal.dead_letters (value, value_size, kind, errors, dead_at)
	VALUES (convert_to('{"eventId": "cut", "customerId": "cut", "eventType": "t", "timestamp": "2026-01-01"}', 'UTF8'), 5000000, 'malformed', '{too large}', now());
SELECT event, value_text IS NOT NULL AS has_text FROM profile_stream.dead_letters WHERE value_size IS NOT NULL;
SELECT applied, failed FROM profile_stream.retry_dead_letters(ids => ARRAY(SELECT dead_letter_id FROM profile_stream.dead_letters WHERE value_size IS NOT NULL));

-- a customer with more dead letters than a document can hold is exported and forgotten all the same
INSERT INTO profile_stream_internal.dead_letters (key, value, kind, errors, dead_at) SELECT 'much', convert_to(repeat(md5(i::text), 32768), 'UTF8'), 'malformed', '{bad}', now() FROM generate_series(1, 40) i;
SELECT jsonb_array_length(e -> 'deadLetters') AS listed, e -> 'deadLettersLeftOut' AS left_out, octet_length(e::text) < 200000000 AS small FROM profile_stream.export_customer('much') e;
SELECT dead_letters FROM profile_stream.forget_customer('much');

-- damaged bytes for all parsers beside the decoder

-- hashes of ids are keyed: ids that collide in PostgreSQL's own hash do not collide here
CREATE TEMP TABLE colliding AS SELECT hashtext(i::text), array_agg(i::text ORDER BY i) AS ids FROM generate_series(1, 300000) i GROUP BY 1 HAVING count(*) > 1;
SELECT count(*) > 0 AS some, count(*) FILTER (WHERE profile_stream_internal.event_id_hash(ids[1]) = profile_stream_internal.event_id_hash(ids[2])) AS colliding FROM colliding;
-- each bit of a hash is one in half of them, in both of its words; another stream has other ones
SELECT count(DISTINCT hash) AS hashes, min(length(hash)) AS least, max(length(hash)) AS most, count(*) FILTER (WHERE hash = profile_stream_internal.event_id_hash(i::text, 1)) AS same
FROM generate_series(1, 10000) i, profile_stream_internal.event_id_hash(i::text) hash;
SELECT count(*) FROM (SELECT sum(get_bit(profile_stream_internal.event_id_hash(i::text), bit)) FROM generate_series(1, 2000) i, generate_series(0, 79) bit GROUP BY bit) b(ones)
WHERE ones BETWEEN 850 AND 1150;
SELECT pg_temp.send('twice', 't'), pg_temp.send('twice', 't');

-- the secret: nobody reads it, nothing changes it, no dump has it
SELECT length(s.key), length(k.key), s.key <> k.key AS apart FROM profile_stream_internal.database_secret s, profile_stream_internal.event_id_keys k;
CREATE TEMP TABLE before AS SELECT profile_stream_internal.event_id_hash('e') AS key, profile_stream.notification_channel() AS channel;
INSERT INTO profile_stream_internal.database_secret VALUES ('2000-01-01', substr(sha256('known'), 1, 16));
UPDATE profile_stream_internal.database_secret SET key = substr(sha256('known'), 1, 16);
DELETE FROM profile_stream_internal.database_secret;
SET session_replication_role = replica;
UPDATE profile_stream_internal.database_secret SET key = substr(sha256('known'), 1, 16);
DELETE FROM profile_stream_internal.database_secret;
RESET session_replication_role;
TRUNCATE profile_stream_internal.database_secret;
SELECT key = profile_stream_internal.event_id_hash('e') AS same_key, channel = profile_stream.notification_channel() AS same_channel FROM before;
SELECT 'profile_stream_internal.database_secret'::regclass = ANY (extconfig) AS dumped, 'profile_stream_internal.event_id_keys'::regclass = ANY (extconfig) AS key_dumped FROM pg_extension WHERE extname = 'profile_stream';
-- a key that comes with restored ids replaces the one that was made here, which may be older
BEGIN;
INSERT INTO profile_stream_internal.event_id_keys VALUES (now() + '1 year', '0123456789abcdef'), (now() + '2 years', 'fedcba9876543210');
SELECT convert_from(key, 'UTF8') AS key FROM profile_stream_internal.event_id_keys;
SELECT profile_stream_internal.event_id_hash('e');
SET LOCAL session_replication_role = replica;
INSERT INTO profile_stream_internal.event_id_keys VALUES (now(), '0123456789abcdef');
SELECT profile_stream_internal.event_id_hash('e'), profile_stream_internal.event_id_hash('e', 1);
INSERT INTO profile_stream_internal.event_id_keys VALUES (now(), 'short');
ROLLBACK;
BEGIN;
DELETE FROM profile_stream_internal.event_id_keys;
SELECT pg_temp.send('keyless', 't');
ROLLBACK;
SELECT key = profile_stream_internal.event_id_hash('e') AS same_key FROM before;
CREATE ROLE regress_limits_reader IN ROLE profile_stream_reader;
CREATE ROLE regress_limits_operator IN ROLE profile_stream_operator;
CREATE ROLE regress_limits_nobody;
SELECT r AS role, has_table_privilege(r, 'profile_stream_internal.database_secret', 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') AS secret,
	has_table_privilege(r, 'profile_stream_internal.event_id_keys', 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') AS ids_key,
	has_function_privilege(r, 'profile_stream.notification_channel(text)', 'EXECUTE') AS channel, has_function_privilege(r, 'profile_stream_internal.event_id_hash(text, int)', 'EXECUTE') AS hash
FROM unnest('{regress_limits_reader,regress_limits_operator,regress_limits_nobody}'::text[]) r;
DROP ROLE regress_limits_reader, regress_limits_operator, regress_limits_nobody;

-- channels: the default ones have digits of the database's own, and no notification goes where everybody listens
SELECT c ~ '^profile_updates_[0-9a-f]{16}$' AS updates, s ~ '^segment_changes_[0-9a-f]{16}$' AS segments, right(c, 16) = right(s, 16) AS same
FROM profile_stream.notification_channel() c, profile_stream.notification_channel('segment_changes') s;
SELECT profile_stream.notification_channel('other');
LISTEN profile_updates;
\set ECHO none
SELECT format('LISTEN %I', profile_stream.notification_channel()) \gexec
\o | sed -E 's/_[0-9a-f]{16}"/_…"/; s/PID [0-9]+/PID …/'
SELECT pg_temp.send('told', 't', '{}', 'told');
\o
\set ECHO all
UNLISTEN *;

TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
DROP VIEW public.types;
