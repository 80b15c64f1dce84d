-- code of users: its time, what it may touch, and how many workers users may have
\set VERBOSITY terse
SET client_min_messages = warning;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters;
CREATE SCHEMA contain;
CREATE FUNCTION contain.ev(id text, type text, payload jsonb DEFAULT '{}', customer text DEFAULT 'c') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('eventId', id, 'customerId', customer, 'eventType', type, 'timestamp', '2026-01-01T00:00:00Z', 'payload', payload) $$;
CREATE FUNCTION contain.letters() RETURNS SETOF text LANGUAGE sql AS $$
	WITH gone AS (DELETE FROM profile_stream_internal.dead_letters RETURNING *)
	SELECT concat_ws('|', event_id, sqlstate, array_to_string(errors, '; ')) FROM gone ORDER BY dead_letter_id $$;

-- time counts while a call is planned, where functions of constants are called
SET profile_stream.handler_timeout = '50ms';
CREATE FUNCTION contain.fold(text) RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN '{}'; END $$;
CREATE FUNCTION contain.planned(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT contain.fold('x') $$;
SELECT profile_stream.register_handler('planned', 'contain.planned(jsonb,jsonb)');
SELECT profile_stream.apply_events(ARRAY[contain.ev('p1', 'planned'), contain.ev('p2', 'other')]);
SELECT profile_stream.test_handler('planned', '{}');
RESET profile_stream.handler_timeout;
SELECT * FROM contain.letters();

-- what outlasts a call, and what its process has in memory: the event alone fails, and a handler that goes on is none the worse
CREATE FUNCTION contain.touch(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	statement text := event #>> '{payload,do}';
BEGIN
	IF event #> '{payload,caught}' IS NULL THEN
		EXECUTE statement;
	ELSE
		BEGIN EXECUTE statement; EXCEPTION WHEN OTHERS THEN NULL; END;
	END IF;
	RETURN '{"attributes": {"done": true}}';
END $$;
SELECT profile_stream.register_handler('touch', 'contain.touch(jsonb,jsonb)');
CREATE OPERATOR contain.!! (FUNCTION = pg_try_advisory_lock, RIGHTARG = bigint);
SELECT pg_advisory_lock(1);
SELECT does, profile_stream.apply_events(ARRAY[contain.ev('t' || n, 'touch', jsonb_build_object('do', does)), contain.ev('c' || n, 'touch', jsonb_build_object('do', does, 'caught', true))]) AS outcome
FROM unnest(ARRAY['SELECT pg_advisory_unlock_all()', 'SELECT pg_advisory_unlock(1)', 'SELECT pg_advisory_lock(2)', 'SELECT pg_advisory_lock_shared(1, 2)',
	'SELECT pg_try_advisory_lock(3)', 'SELECT OPERATOR(contain.!!) 4::bigint', 'SELECT pg_advisory_xact_lock(5)',
	'UPDATE profile_stream.materialized_profiles SET phone = 1', 'DELETE FROM profile_stream.materialized_profiles',
	'INSERT INTO profile_stream.materialized_profiles SELECT * FROM profile_stream.materialized_profiles',
	'SELECT FROM profile_stream.materialized_profiles FOR UPDATE', 'DELETE FROM profile_stream_internal.event_id_chunks', 'DELETE FROM profile_stream_internal.stream_offsets',
	'UPDATE profile_stream_rebuild.materialized_profiles SET phone = 1', 'SELECT profile_stream.forget_customer(''c'')',
	'WITH w AS (UPDATE profile_stream.materialized_profiles SET phone = 1 RETURNING 1) SELECT FROM w',
	'CREATE TEMPORARY TABLE t ()', 'SELECT FROM profile_stream.materialized_profiles']) WITH ORDINALITY d (does, n);
SELECT * FROM contain.letters();
-- outside of such code everybody may
SELECT pg_advisory_unlock(1);
SELECT classid, objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
UPDATE profile_stream.materialized_profiles SET phone = '1' RETURNING attributes, phone;

-- scores: a function that takes too long for some profiles does not keep the others, and one that does for many is given up
SELECT profile_stream.apply_events(array_agg(contain.ev('s' || n, 'other', customer => 'p' || n))) = array_fill('applied'::text, '{40}') FROM generate_series(1, 40) n;
CREATE FUNCTION contain.score(profile jsonb) RETURNS jsonb STABLE LANGUAGE plpgsql AS $$
BEGIN
	IF profile ->> 'customerId' ~ current_setting('contain.slow') THEN
		PERFORM pg_sleep(60);
	END IF;
	RETURN '{"segment": "mine"}';
END $$;
SET profile_stream.handler_timeout = '100ms';
SELECT profile_stream.set_score_function('contain.score(jsonb)');
SET contain.slow = '^p1?7$';
CALL profile_stream.refresh_scores('0');
SELECT profiles_done, profiles_failed, regexp_replace(error, '"p\d+"', 'somebody') AS error FROM profile_stream.stat_score_refresh;
SELECT segment, count(*) FROM profile_stream.materialized_profiles GROUP BY 1 ORDER BY 1;
SET contain.slow = '.';
CALL profile_stream.refresh_scores('0');
CREATE OR REPLACE FUNCTION contain.score(profile jsonb) RETURNS jsonb STABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_unlock_all(); RETURN '{}'; END $$;
CALL profile_stream.refresh_scores('0');
SELECT profiles_failed, regexp_replace(error, '"p\d+"', 'somebody') AS error FROM profile_stream.stat_score_refresh;
SELECT profile_stream.set_score_function(NULL);
RESET profile_stream.handler_timeout;

-- segments: each for itself
CREATE FUNCTION contain.raise(state text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = state; END $$;
SELECT profile_stream.create_segment('a sleeps', 'customer_id = ''p1'' AND pg_sleep(60) IS NOT NULL');
SELECT profile_stream.create_segment('b ' || state, format('contain.raise(%L)', state)) FROM unnest('{40001,53100,55000,57014,57P03,58030,XX000,P0001}'::text[]) state;
SELECT profile_stream.create_segment('c unlocks', 'pg_advisory_unlock_all() IS NULL');
CREATE FUNCTION contain.nest() RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN PERFORM profile_stream.test_handler('other', '{}'); PERFORM pg_advisory_unlock_all(); RETURN true; END $$;
SELECT profile_stream.create_segment('c nests', 'contain.nest()');
CREATE FUNCTION contain.compile(statement text) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN EXECUTE statement; PERFORM pg_sleep(60), pg_advisory_unlock_all(); RETURN true; END $$;
SELECT profile_stream.create_segment('c new', $$customer_id >= 'p' AND contain.compile('SELECT profile_stream.create_segment(''e'', ''true'', ''live'')')$$, 'batch');
SELECT profile_stream.create_segment('c old', $$customer_id >= 'p' AND contain.compile('SELECT profile_stream.alter_segment(''d works'', evaluate => ''live'')')$$, 'batch');
SELECT profile_stream.create_segment('d works', 'customer_id < ''p11''');
SET profile_stream.segment_timeout = '1s';
SET client_min_messages = error;
CALL profile_stream.refresh_segments();
SELECT name, error, refreshed_at IS NOT NULL AS refreshed, failing_since IS NOT NULL AS failing FROM profile_stream_internal.segments ORDER BY 1;
SELECT segment, count(*) FROM profile_stream.segment_members GROUP BY 1;
-- since when it fails
CALL profile_stream.refresh_segments('a sleeps');
SELECT name, failing_since < error_at AS since FROM profile_stream_internal.segments WHERE name = 'a sleeps';
RESET profile_stream.segment_timeout;
-- a cancellation is the caller's
SET statement_timeout = '50ms';
CALL profile_stream.refresh_segments('a sleeps');
RESET statement_timeout;

-- how many workers those may have who are no superusers
CREATE ROLE contain_op IN ROLE profile_stream_operator;
CREATE SERVER contain_kafka FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER contain_kafka TO contain_op;
SHOW profile_stream.max_workers;
\set VERBOSITY sqlstate
SET ROLE contain_op;
SET profile_stream.max_workers = 100;
BEGIN;
SELECT profile_stream.create_stream('s', server => 'contain_kafka', workers => 64);
ROLLBACK;
BEGIN;
SELECT profile_stream.create_stream('s', server => 'contain_kafka');
SELECT profile_stream.pause_stream('s');
SELECT profile_stream.alter_stream('s', workers => 64);
SAVEPOINT before;
SELECT profile_stream.resume_stream('s');
ROLLBACK TO before;
SELECT profile_stream.alter_stream('s', workers => 1);
SELECT profile_stream.create_stream('t', server => 'contain_kafka');
SAVEPOINT before;
SELECT profile_stream.alter_stream('t', workers => 64);
ROLLBACK;
RESET ROLE;

SELECT profile_stream.unregister_handler(event_type, function) FROM profile_stream_internal.event_handlers;
SELECT profile_stream.drop_segment(name) FROM profile_stream_internal.segments;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream.segment_changes, profile_stream_internal.score_refresh, profile_stream_internal.score_passes;
ALTER SEQUENCE profile_stream_internal.event_handlers_handler_id_seq RESTART;
DROP SERVER contain_kafka CASCADE;
DROP SCHEMA contain CASCADE;
DROP ROLE contain_op;
