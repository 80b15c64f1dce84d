-- what needs no broker: wrong use, privileges, options
\set VERBOSITY terse
SET client_min_messages = warning;
-- wrong arguments
SELECT profile_stream.create_stream('');
SELECT profile_stream.create_stream('s', on_offset_lost => 'jump');
SELECT profile_stream.create_stream('s', notify => 'always');
SELECT profile_stream.create_stream('s', start_from => 'yesterday-ish');
SELECT profile_stream.create_stream('s', start_from => 'infinity');
SELECT profile_stream.create_stream('s', batch_size => 0);
SELECT profile_stream.create_stream('s', group_id => NULL);
SELECT profile_stream.create_stream('s', server => 'nowhere');
SELECT profile_stream.create_stream('s', server => 'a', bootstrap_servers => 'b');
SELECT profile_stream.create_stream('s', reorder_wait => '-1 s');
SELECT profile_stream.create_stream('s', reorder_wait => '25 hours');
SELECT profile_stream.create_stream('s', reorder_buffer_size => 1);
SELECT profile_stream.create_stream('s', late_tolerance => '-1 s');
SELECT profile_stream.create_stream('s', customer_lock_timeout => '-1 ms');
SELECT profile_stream.create_stream('s', customer_lock_timeout => '61 s');
SELECT profile_stream.create_stream('s', customer_lock_timeout => NULL);
SELECT profile_stream.pause_stream('nothing');
SELECT profile_stream.reconcile('nothing');
SELECT profile_stream.resume_stream('nothing');
SELECT profile_stream.drop_stream('nothing');
SELECT profile_stream.wait_for_stream('nothing');
SELECT profile_stream.wait_for_offset('nothing', 0, 0);
-- the procedures that wait
CALL profile_stream.await_stream('nothing');
CALL profile_stream.await_offset('nothing', 0, 0);
CALL profile_stream.await_offset('nothing', -1, 0);
CALL profile_stream.await_offset('nothing', 4096, 0);
CALL profile_stream.await_stream(NULL);
CALL profile_stream.await_offset('nothing', 0, NULL);
CALL profile_stream.await_stream('nothing', timeout => NULL);
\set VERBOSITY default
BEGIN;
CALL profile_stream.await_stream('nothing');
ROLLBACK;
BEGIN;
CALL profile_stream.await_offset('nothing', 0, 0);
ROLLBACK;
\set VERBOSITY terse
CREATE FUNCTION public.waits() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL profile_stream.await_offset('nothing', 0, 0); END $$;
SELECT public.waits();
DROP FUNCTION public.waits();
INSERT INTO profile_stream.streams (stream_id, name, owner, bootstrap_servers, topic, group_id, start_from, batch_size, batch_wait, dedupe_retention, on_offset_lost, notify, options, created_at)
	VALUES (99999, 'still', current_user::regrole, 'none', 't', 'g', 'earliest', 1, '0', '0', 'stop', 'off', '{}', now());
INSERT INTO profile_stream_internal.stream_offsets (stream_id, partition, start_offset, next_offset, read_offset) VALUES (99999, 0, 0, 30, 30), (99999, 1, 0, 5, 5);
CALL profile_stream.await_offset('still', 0, 29);
CALL profile_stream.await_offset('still', 0, 30, '20 ms');
CALL profile_stream.await_offset('still', 1, 5, '0');
CALL profile_stream.await_offset('still', 2, 0, '-1 s');
SELECT profile_stream.wait_for_offset('still', 0, 29), profile_stream.wait_for_offset('still', 0, 30, '0');
-- in a block that can commit, and under other defaults
DO $$ BEGIN CALL profile_stream.await_offset('still', 1, 4); CALL profile_stream.await_offset('still', 0, 30, '0'); END $$;
SET default_transaction_isolation = 'serializable';
SET default_transaction_read_only = on;
SET search_path = pg_temp;
CALL profile_stream.await_offset('still', 1, 4);
SHOW search_path;
RESET search_path;
RESET default_transaction_read_only;
RESET default_transaction_isolation;
DELETE FROM profile_stream.streams WHERE name = 'still';
SELECT profile_stream.start_streams();
-- options pass the allow-list before librdkafka sees them
\set VERBOSITY default
SELECT profile_stream.create_stream('s', options => '{"fetch.wait.max": "10"}');
\set VERBOSITY terse
SELECT profile_stream.create_stream('s', options => '{"plugin.library.paths": "/tmp/x.so"}');
SELECT profile_stream.create_stream('s', options => '{"sasl.kerberos.kinit.cmd": "id"}');
SELECT profile_stream.create_stream('s', options => '{"sasl.mechanism": "GSSAPI"}');
SELECT profile_stream.create_stream('s', options => '{"sasl.password": "x"}');
SELECT profile_stream.create_stream('s', options => '{"enable.auto.commit": true}');
SELECT profile_stream.create_stream('s', options => '{"isolation.level": "read_uncommitted"}');
SELECT profile_stream.create_stream('s', options => '{"auto.offset.reset": "latest"}');
SELECT profile_stream.create_stream('s', options => '{"internal.termination.signal": 15}');
SELECT profile_stream.create_stream('s', options => '{"test.mock.num.bootstrap_servers": 1}');
SELECT profile_stream.create_stream('s', options => '{"fetch.wait.max.ms": [1]}');
SELECT profile_stream.create_stream('s', options => '[1]');
SELECT profile_stream.create_stream('s', bootstrap_servers => '');
SELECT profile_stream.create_stream('s', bootstrap_servers => 'http://kafka:9092');
SELECT profile_stream.create_stream('s', bootstrap_servers => 'kafka:9092, //kafka');
SELECT profile_stream.create_stream('s', bootstrap_servers => 'SSL://');
CREATE SERVER streams_wrong FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers ' , ');
CREATE SERVER streams_wrong FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers 'k:9092', "sasl.mechanism" 'MD5');
CREATE SERVER streams_wrong FOREIGN DATA WRAPPER profile_stream_redis OPTIONS (host 'r');
SELECT profile_stream.create_stream('s', server => 'streams_wrong');
DROP SERVER streams_wrong;
BEGIN;
SELECT profile_stream.create_stream('s', bootstrap_servers => 'kafka, kafka:9092, [::1]:9092, ssl://kafka:9092');
ROLLBACK;
-- servers and user mappings
CREATE SERVER bank FOREIGN DATA WRAPPER profile_stream_kafka;
CREATE SERVER bank FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers 'k:9092', "sasl.password" 'x');
CREATE SERVER bank FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers 'k:9092', "plugin.library.paths" 'x');
CREATE SERVER bank FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers 'k:9092', "security.protocol" 'SASL_PLAINTEXT', "sasl.mechanism" 'PLAIN');
CREATE USER MAPPING FOR CURRENT_USER SERVER bank OPTIONS ("bogus" 'x');
CREATE USER MAPPING FOR CURRENT_USER SERVER bank OPTIONS ("sasl.username" 'u', "sasl.password" 'secret');
-- who may do what
CREATE ROLE regress_nobody;
CREATE ROLE regress_operator IN ROLE profile_stream_operator;
CREATE ROLE regress_reader IN ROLE profile_stream_reader;
SET ROLE regress_nobody;
SELECT profile_stream.create_stream('s');
SELECT count(*) FROM profile_stream.profiles;
RESET ROLE;
SET ROLE regress_operator;
SELECT profile_stream.create_stream('s');
SELECT profile_stream.create_stream('s', server => 'bank');
UPDATE profile_stream.streams SET bootstrap_servers = 'elsewhere:9092';
CREATE USER MAPPING FOR CURRENT_USER SERVER bank OPTIONS ("ssl.key.location" '/etc/passwd');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER bank TO regress_operator;
SET ROLE regress_operator;
CREATE USER MAPPING FOR CURRENT_USER SERVER bank OPTIONS ("ssl.ca.location" '/etc/passwd');
RESET ROLE;
SET ROLE regress_reader;
SELECT count(*) FROM profile_stream.profiles;
SELECT profile_stream.get_profile('x');
SELECT profile_stream.apply_event('{"eventId": "1", "customerId": "x", "eventType": "t", "timestamp": "2026-01-01"}');
SELECT count(*) FROM profile_stream.stat_streams;
SELECT profile_stream.reconcile('s');
RESET ROLE;
SET ROLE regress_operator;
SELECT profile_stream.apply_event('{"eventId": "1", "customerId": "x", "eventType": "t", "timestamp": "2026-01-01"}');
RESET ROLE;
-- a read-only transaction
BEGIN READ ONLY;
SELECT profile_stream.create_stream('s');
ROLLBACK;
-- rolled back: nothing is left
BEGIN;
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1');
ROLLBACK;
SELECT stream, state FROM profile_stream.stat_streams;
-- ordering as it is stored, and books that are wrong on purpose
BEGIN;
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1');
SELECT reorder_wait, reorder_buffer_size, late_tolerance FROM profile_stream.streams;
SELECT profile_stream.create_stream('t', bootstrap_servers => '127.0.0.1:1', reorder_wait => '90 s', reorder_buffer_size => 50, late_tolerance => '1 month 1 us');
SELECT reorder_wait, reorder_buffer_size, late_tolerance FROM profile_stream.streams WHERE name = 't';
SELECT profile_stream.alter_stream('t', customer_lock_timeout => '2.5 s');
SELECT name, customer_lock_timeout FROM profile_stream.streams ORDER BY 1;
SELECT * FROM profile_stream.reconcile('s');
INSERT INTO profile_stream_internal.stream_offsets (stream_id, partition, start_offset, next_offset, read_offset, consumed, applied, duplicates,
	dead, late, tombstones, blocked, replayed, held, late_dropped, ignored, late_applied, other_key, other_partition)
SELECT s.stream_id, p, 0, 0, 0, 1023 + p, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 4096, 8192, 16384
FROM profile_stream.streams s, generate_series(0, 1) p WHERE s.name = 's';
SELECT profile_stream.apply_events(array_agg(jsonb_build_object('eventId', n, 'customerId', 'book', 'eventType', 'transaction.completed',
	'payload', '{"amount": 2.5}'::jsonb, 'timestamp', timestamptz '2026-01-01Z' + n * interval '1 hour'))) = array_fill('applied'::text, '{300}')
FROM generate_series(1, 300) n;
SELECT partition, difference, chunks > 2 AS chunks, wrong_chunks FROM profile_stream.reconcile('s');
SAVEPOINT folded;
SELECT profile_stream.prune_metrics('2027-01-01Z') > 0;
SELECT partition, difference, chunks > 2 AS chunks, wrong_chunks FROM profile_stream.reconcile('s');
UPDATE profile_stream_internal.window_chunks SET days[1].sum = (days[1]).sum + 1
WHERE (customer_id, metric, to_at) IN (SELECT customer_id, metric, min(to_at) FROM profile_stream_internal.window_chunks GROUP BY 1, 2);
SELECT partition, difference, chunks > 2 AS chunks, wrong_chunks FROM profile_stream.reconcile('s');
ROLLBACK TO folded;
UPDATE profile_stream_internal.window_chunks SET count = count + 1
WHERE (customer_id, metric, to_at) IN (SELECT customer_id, metric, min(to_at) FROM profile_stream_internal.window_chunks GROUP BY 1, 2);
SELECT partition, difference, chunks > 2 AS chunks, wrong_chunks FROM profile_stream.reconcile('s');
ROLLBACK;
-- everything has a comment
SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace::regnamespace::text ~ '^profile_stream' AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace::regnamespace::text ~ '^profile_stream' AND c.relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL;
-- clean up
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
DROP SERVER bank CASCADE;
DROP ROLE regress_nobody, regress_operator, regress_reader;
-- no name in a function is looked up in the caller's search_path: bound when it was created, or with a search_path of its own
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace::regnamespace::text ~ '^profile_stream' AND l.lanname <> 'c' AND p.prosqlbody IS NULL
	AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c = 'search_path=pg_catalog, pg_temp');

-- an order stands for four options, and each of them may be given beside it
SELECT profile_stream.create_stream('unordered', "order" => 'random');
SELECT profile_stream.create_stream('unordered', "order" => NULL);
SELECT profile_stream.create_stream('ordered', bootstrap_servers => '127.0.0.1:1', "order" => 'article');
SELECT profile_stream.create_stream('ordered2', bootstrap_servers => '127.0.0.1:1', topic => 'other', "order" => 'article', reorder_wait => '2 s', late_tolerance => '2 hours', late_policy => 'apply');
CREATE TEMP VIEW orders AS SELECT name, reorder_wait, reorder_buffer_size, late_tolerance, late_policy FROM profile_stream.streams WHERE name LIKE 'ordered%' ORDER BY name;
TABLE orders;
SELECT profile_stream.alter_stream('ordered', "order" => 'arrival'), profile_stream.alter_stream('ordered2', batch_size => 7);
TABLE orders;
SELECT profile_stream.alter_stream('ordered', "order" => 'article', reorder_buffer_size => 10), profile_stream.alter_stream('ordered2', "order" => '');
TABLE orders;
SELECT profile_stream.drop_stream('ordered'), profile_stream.drop_stream('ordered2');
DROP VIEW orders;

-- what becomes of late events and of unknown versions, and which types are taken
SELECT profile_stream.create_stream('p', late_policy => 'skip');
SELECT profile_stream.create_stream('p', unknown_schema => 'drop');
SELECT profile_stream.create_stream('p', unknown_schema => NULL);
SELECT profile_stream.create_stream('p', message_key => 'id');
SELECT profile_stream.create_stream('p', partitioner => 'murmur2');
SELECT profile_stream.create_stream('p', event_types => '{a,NULL}');
SELECT profile_stream.create_stream('p', event_types => '{""}');
SELECT profile_stream.create_stream('p', event_types => ARRAY[repeat('x', 513)]);
SELECT profile_stream.create_stream('p', event_types => array_agg(n::text)) FROM generate_series(0, 1000) n;
SELECT profile_stream.create_stream('p', bootstrap_servers => '127.0.0.1:1');
CREATE TEMP VIEW policies AS SELECT late_policy, unknown_schema, event_types FROM profile_stream.streams WHERE name = 'p';
TABLE policies;
SELECT profile_stream.alter_stream('p', late_policy => 'apply', unknown_schema => 'accept', event_types => '{seen,account.opened,seen}');
TABLE policies;
SELECT profile_stream.alter_stream('p', batch_size => 7), profile_stream.alter_stream('p', late_policy => 'never');
TABLE policies;
SELECT profile_stream.alter_stream('p', event_types => '{}', late_policy => 'drop', unknown_schema => 'dead_letter');
TABLE policies;
SELECT profile_stream.drop_stream('p');
DROP VIEW policies;
