-- roles are remembered as what they are: renamed, dropped, their names used again; and code that nobody has confirmed does not run
\set VERBOSITY terse
SET client_min_messages = warning;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters;
CREATE ROLE roles_ann IN ROLE profile_stream_operator;
CREATE ROLE roles_bob IN ROLE profile_stream_operator;
CREATE SCHEMA roles AUTHORIZATION roles_ann;
GRANT ALL ON SCHEMA roles TO PUBLIC;
CREATE FUNCTION roles.ev(id text, type text, version int DEFAULT 1) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('eventId', id, 'customerId', 'c', 'eventType', type, 'timestamp', '2026-01-01T00:00:00Z', 'payload', '{}'::jsonb, 'schemaVersion', version) $$;
CREATE FUNCTION roles.letters() RETURNS SETOF text LANGUAGE sql AS $$
	WITH gone AS (DELETE FROM profile_stream_internal.dead_letters RETURNING *)
	SELECT concat_ws('|', event_id, sqlstate, array_to_string(errors, '; ')) FROM gone ORDER BY dead_letter_id $$;
CREATE VIEW roles.seen AS SELECT kind, name, regexp_replace(owner, '\d+', 'gone') AS owner, state FROM profile_stream.stat_code ORDER BY 1, 2;
SET ROLE roles_ann;
CREATE FUNCTION roles.h(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN jsonb_build_object('attributes', jsonb_build_object('by', current_user)); END $$;
CREATE FUNCTION roles.u(event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN jsonb_build_object('by', current_user); END $$;
CREATE FUNCTION roles.s(profile jsonb) RETURNS jsonb STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN jsonb_build_object('segment', current_user); END $$;
SELECT profile_stream.register_handler('h', 'roles.h(jsonb,jsonb)');
SELECT profile_stream.register_upcaster('u', 1, 'roles.u(jsonb)');
SELECT profile_stream.set_score_function('roles.s(jsonb)');
SELECT profile_stream.create_segment('seg', 'current_user <> session_user');
RESET ROLE;

-- renamed: it works on, and another one by the old name has nothing to do with it
ALTER ROLE roles_ann RENAME TO roles_eve;
CREATE ROLE roles_ann SUPERUSER;
SELECT profile_stream.apply_event(roles.ev('1', 'h')), profile_stream.apply_event(roles.ev('2', 'u'));
CALL profile_stream.refresh_scores('0');
CALL profile_stream.refresh_segments();
SELECT attributes, segment FROM profile_stream.materialized_profiles;
SELECT segment, customer_id FROM profile_stream.segment_members;
SELECT * FROM roles.letters();
TABLE roles.seen;
DROP ROLE roles_ann;

-- handed over: not as somebody else, until that one registers it, too
ALTER FUNCTION roles.h(jsonb, jsonb) OWNER TO roles_bob;
ALTER FUNCTION roles.u(jsonb) OWNER TO roles_bob;
SELECT profile_stream.apply_event(roles.ev('3', 'h')), profile_stream.apply_event(roles.ev('4', 'u'));
SELECT * FROM roles.letters();
TABLE roles.seen;
SET ROLE roles_bob;
SELECT profile_stream.register_handler('h', 'roles.h(jsonb,jsonb)');
SELECT profile_stream.register_upcaster('u', 1, 'roles.u(jsonb)');
SELECT profile_stream.register_handler('h', 'roles.h(jsonb,jsonb)');
RESET ROLE;
SELECT profile_stream.apply_event(roles.ev('3', 'h')), profile_stream.apply_event(roles.ev('4', 'u'));
SELECT attributes FROM profile_stream.materialized_profiles;

-- the score function runs as who set it: nobody else may come to own, and so replace it
ALTER FUNCTION roles.s(jsonb) OWNER TO roles_bob;
CALL profile_stream.refresh_scores('0');
\set VERBOSITY sqlstate
SELECT profile_stream.set_score_function('roles.s(jsonb)');
\set VERBOSITY terse
ALTER FUNCTION roles.s(jsonb) OWNER TO roles_eve;

-- nobody but its owner or a superuser
SET ROLE roles_bob;
SELECT profile_stream.set_score_function(NULL);
SELECT profile_stream.drop_segment('seg');
SELECT profile_stream.alter_segment('seg', 'roles_bob');
RESET ROLE;
SET ROLE roles_eve;
SELECT profile_stream.unregister_handler('h', 'roles.h(jsonb,jsonb)');
\set VERBOSITY sqlstate
SELECT profile_stream.alter_segment('seg', 'roles_bob');
\set VERBOSITY terse
RESET ROLE;

-- dropped, and the name used again by somebody with more rights
ALTER SCHEMA roles OWNER TO CURRENT_USER;
REASSIGN OWNED BY roles_eve TO roles_bob;
DROP OWNED BY roles_eve;
DROP ROLE roles_eve;
CREATE ROLE roles_eve SUPERUSER;
TABLE roles.seen;
CALL profile_stream.refresh_segments();
CALL profile_stream.refresh_scores('0');
SELECT profile_stream.alter_segment('seg', 'roles_bob');
CALL profile_stream.refresh_segments();
SELECT error, failing_since FROM profile_stream_internal.segments;
SET ROLE roles_bob;
SELECT profile_stream.set_score_function('roles.s(jsonb)');
RESET ROLE;
SELECT profile_stream.set_score_function(NULL);
SET ROLE roles_bob;
SELECT profile_stream.set_score_function('roles.s(jsonb)');
RESET ROLE;
CALL profile_stream.refresh_scores('0');
SELECT segment FROM profile_stream.materialized_profiles;
DROP ROLE roles_eve;
TABLE roles.seen;

-- streams: a role that is gone, a name that is used again, a new owner
CREATE ROLE roles_cat IN ROLE profile_stream_operator;
CREATE SERVER roles_kafka FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER roles_kafka TO roles_cat;
BEGIN;
SET LOCAL ROLE roles_cat;
SELECT profile_stream.create_stream('s', server => 'roles_kafka');
SELECT profile_stream.pause_stream('s');
COMMIT;
INSERT INTO profile_stream_internal.stream_offsets (stream_id, partition, start_offset, next_offset, read_offset) SELECT stream_id, 0, 0, 42, 42 FROM profile_stream.streams;
SET ROLE roles_cat;
\set VERBOSITY sqlstate
SELECT profile_stream.alter_stream('s', owner => 'roles_bob');
\set VERBOSITY terse
RESET ROLE;
GRANT roles_bob TO roles_cat;
SET ROLE roles_cat;
SELECT profile_stream.alter_stream('s', owner => 'roles_bob');
\set VERBOSITY sqlstate
SELECT profile_stream.alter_stream('s', owner => 'profile_stream_reader');
\set VERBOSITY terse
RESET ROLE;
SELECT profile_stream.alter_stream('s', owner => 'profile_stream_reader');
DROP OWNED BY roles_cat;
DROP ROLE roles_cat;
CREATE ROLE roles_cat IN ROLE profile_stream_operator;
GRANT USAGE ON FOREIGN SERVER roles_kafka TO roles_cat;
SET ROLE roles_cat;
SELECT profile_stream.resume_stream('s');
RESET ROLE;
SELECT profile_stream.resume_stream('s');
SELECT owner ~ 'unknown' AS gone, state IN ('pausing', 'paused') AS paused FROM profile_stream.stat_streams;
UPDATE profile_stream_internal.stream_status SET enabled = true;
SELECT profile_stream.start_streams();
SELECT state, error, hint FROM profile_stream.stat_streams;
SELECT profile_stream.pause_stream('s');
GRANT USAGE ON FOREIGN SERVER roles_kafka TO roles_bob;
SELECT profile_stream.alter_stream('s', owner => 'roles_bob');
SELECT s.owner, s.state, p.next_offset FROM profile_stream.stat_streams s JOIN profile_stream.stat_partitions p USING (stream);

-- what a subscription or a restore writes does not run, and what it changes does no more
SET session_replication_role = replica;
INSERT INTO profile_stream_internal.confirmed_code VALUES ('handler', '99999', now()) RETURNING key;
INSERT INTO profile_stream_internal.event_handlers VALUES (99999, 'foreign', 'roles.h(jsonb,jsonb)', 'roles_bob', 0);
UPDATE profile_stream_internal.event_upcasters SET function = 'roles.u(jsonb)';
UPDATE profile_stream_internal.segments SET predicate = 'current_user = ''roles_bob''';
UPDATE profile_stream_internal.score_function SET owner = 'roles_bob';
UPDATE profile_stream.streams SET topic = 'elsewhere';
RESET session_replication_role;
COPY profile_stream_internal.segments (name, predicate, owner, created_at) FROM stdin;
copied	true	roles_bob	2026-01-01
\.
UPDATE profile_stream_internal.confirmed_code SET key = '99999' WHERE kind = 'handler';
DELETE FROM profile_stream_internal.confirmed_code;
TRUNCATE profile_stream_internal.confirmed_code;
TABLE roles.seen;
SELECT state, hint FROM profile_stream.stat_streams;
UPDATE profile_stream_internal.stream_status SET enabled = true;
SELECT profile_stream.start_streams();
UPDATE profile_stream_internal.stream_status SET enabled = false;
SELECT profile_stream.apply_event(roles.ev('5', 'foreign'));
SELECT profile_stream.apply_event(roles.ev('6', 'u'));
SELECT profile_stream.test_handler('foreign', '{}');
CALL profile_stream.refresh_segments();
CALL profile_stream.refresh_scores('0');
SELECT name, error, failing_since IS NOT NULL AS failing FROM profile_stream_internal.segments ORDER BY 1;
SELECT count(*) FROM profile_stream.segment_members WHERE segment = 'copied';
-- who confirms
SET ROLE roles_cat;
SELECT profile_stream.confirm_code();
SELECT profile_stream.confirm_code('handler', 'foreign');
SET ROLE roles_bob;
SELECT profile_stream.confirm_code('segment', 'copied');
SELECT profile_stream.confirm_code('nothing');
SELECT profile_stream.confirm_code();
RESET ROLE;
TABLE roles.seen;
SELECT profile_stream.apply_event(roles.ev('5', 'foreign')), profile_stream.apply_event(roles.ev('6', 'u'));
CALL profile_stream.refresh_segments();
CALL profile_stream.refresh_scores('0');
SELECT name, error, failing_since FROM profile_stream_internal.segments ORDER BY 1;
SELECT * FROM roles.letters();
-- a definition that is deleted takes its confirmation along
SELECT profile_stream.drop_segment('copied');
SELECT profile_stream.drop_stream('s');
SELECT kind, key FROM profile_stream_internal.confirmed_code WHERE kind IN ('segment', 'stream');

SELECT profile_stream.unregister_handler(event_type, function) FROM profile_stream_internal.event_handlers;
SELECT profile_stream.unregister_upcaster(event_type, from_version) FROM profile_stream_internal.event_upcasters;
SELECT profile_stream.drop_segment(name) FROM profile_stream_internal.segments;
SELECT profile_stream.set_score_function(NULL);
SELECT count(*) FROM profile_stream_internal.confirmed_code;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream.segment_changes, profile_stream_internal.score_refresh, profile_stream_internal.score_passes;
DROP SERVER roles_kafka CASCADE;
DROP SCHEMA roles CASCADE;
DROP ROLE roles_bob, roles_cat;
