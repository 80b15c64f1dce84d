-- What states, versions and clusters say, without a broker.
\set VERBOSITY terse
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\set functions :srcdir '/event_ids.sql'
\i :functions
\set ECHO all
SET client_min_messages = error;

-- versions
SELECT key, CASE WHEN key IN ('extension', 'library') THEN value = to_jsonb(e.extversion)
	WHEN key = 'warning' THEN jsonb_typeof(value) IN ('string', 'null')
	WHEN key = 'postgresql' THEN value = to_jsonb(current_setting('server_version'))
	WHEN key = 'hiredis' THEN COALESCE(value #>> '{}', '0.0') ~ '^\d+\.\d+'
	ELSE value #>> '{}' ~ '^\d+\.\d+\.\d+' END AS ok
FROM pg_extension e, jsonb_each(profile_stream.version()) WHERE e.extname = 'profile_stream' ORDER BY key COLLATE "C";
SELECT v, profile_stream_internal.library_warning(v) IS NOT NULL AS warned FROM unnest(ARRAY['1.9.2', '2.0.2', '2.3.0', '2.4.0', '2.8.0', '2.9.2', '2.10.0', '2.10.1', '2.14.2', '3.5.0']) AS v;
SELECT profile_stream_internal.library_warning('2.8.0'), profile_stream_internal.library_warning('2.10.0');

-- objects of another version than the library; a change of a function has the library look again
CREATE FUNCTION pg_temp.refusal(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE command;
	RETURN 'not refused';
EXCEPTION WHEN object_not_in_prerequisite_state THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN replace(SQLERRM, profile_stream.version() ->> 'library', 'LIBRARY') || '. ' || hint;
END $$;
BEGIN;
UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'profile_stream';
CREATE FUNCTION pg_temp.look() RETURNS void LANGUAGE sql AS '';
SELECT pg_temp.refusal($$SELECT profile_stream.apply_event('{"eventId": "1", "customerId": "c", "eventType": "t", "timestamp": "2026-01-01T00:00:00Z"}')$$);
SELECT pg_temp.refusal($$SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1')$$);
SELECT pg_temp.refusal($$SELECT profile_stream.pause_stream('s')$$);
SELECT pg_temp.refusal('SELECT profile_stream.start_streams()');
-- each function in C looks at the versions before it looks at its arguments, but for triggers, validators, and what shows states
DO $$
DECLARE
	function regprocedure;
BEGIN
	FOR function IN SELECT p.oid FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.pronamespace::regnamespace::text ~ '^profile_stream' AND l.lanname = 'c' AND p.proisstrict LOOP
		EXECUTE format('ALTER FUNCTION %s CALLED ON NULL INPUT', function);
	END LOOP;
END $$;
WITH checked AS MATERIALIZED (SELECT p.* FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	WHERE p.pronamespace::regnamespace::text ~ '^profile_stream' AND l.lanname = 'c' AND p.prorettype <> ALL ('{trigger,event_trigger,internal}'::regtype[]) AND p.proname <> ALL ('{version,is_distributed,reads_partition,library_warning,current_cluster,process_waits,process_meters,sink_backlog,reported_ends,reported_partitions,file_systems,lease_holder,source_counts,add_sources,code_state,kafka_validator,redis_validator}'))
SELECT count(*) > 90 AS many, string_agg(p.oid::regprocedure::text, ', ') FILTER (WHERE pg_temp.refusal(format('%s %s(%s)', CASE p.prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT' END, p.oid::regproc,
		(SELECT string_agg('NULL::' || t.type::regtype, ', ' ORDER BY t.n) FROM unnest(p.proargtypes) WITH ORDINALITY t (type, n))))
	NOT LIKE 'extension profile_stream is of version 0.0.9 %') AS do_not_refuse FROM checked p;
UPDATE pg_extension SET extversion = '99.0.0' WHERE extname = 'profile_stream';
SELECT pg_temp.refusal('SELECT profile_stream.start_streams()');
ROLLBACK;
CREATE FUNCTION pg_temp.look() RETURNS void LANGUAGE sql AS '';
SELECT profile_stream.start_streams();

-- offsets without the data that they stand for, as a restore leaves them whose COPY failed
BEGIN;
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1');
INSERT INTO profile_stream_internal.stream_offsets (stream_id, partition, start_offset, next_offset, read_offset, consumed, applied, committed_at)
	SELECT stream_id, 0, 0, 7, 7, 7, 7, now() - interval '1 day' FROM profile_stream.streams;
SELECT profile_stream.pause_stream('s');
SAVEPOINT here;
SELECT profile_stream.resume_stream('s'); -- it ran in this database: whoever emptied it knows
ROLLBACK TO here;
DELETE FROM profile_stream_internal.stream_status;
SAVEPOINT restored;
\set VERBOSITY default
SELECT profile_stream.resume_stream('s');
\set VERBOSITY terse
ROLLBACK TO restored;
SELECT state FROM profile_stream.stat_streams;
SELECT profile_stream.resume_stream('s', anyway => true);
ROLLBACK TO restored;
INSERT INTO profile_stream.materialized_profiles (customer_id, version, updated_at, watermark, first_event_at) VALUES ('c', 1, now(), now(), now());
SELECT profile_stream.resume_stream('s'); -- profiles, and a key of event ids that is younger than they are
ROLLBACK TO restored;
INSERT INTO profile_stream.materialized_profiles (customer_id, version, updated_at, watermark, first_event_at) VALUES ('c', 1, now(), now(), now());
UPDATE profile_stream_internal.event_id_keys SET made_at = now() - interval '2 days';
SELECT profile_stream.resume_stream('s');
ROLLBACK TO restored;
UPDATE profile_stream_internal.event_id_keys SET made_at = now() - interval '2 days';
SELECT count(profile_stream.apply_event(jsonb_build_object('eventId', i, 'customerId', 'c', 'eventType', 't', 'timestamp', '2026-01-01'))) FROM generate_series(1, 40) i;
SAVEPOINT whole;
SELECT profile_stream.resume_stream('s');
ROLLBACK TO whole;
DELETE FROM profile_stream_internal.event_id_chunks;
SELECT profile_stream.resume_stream('s'); -- profiles, and no sealed ids of the last seven days
ROLLBACK TO whole;
SELECT testing.age_event_ids('c', '8 days');
DELETE FROM profile_stream_internal.event_id_chunks;
SELECT profile_stream.resume_stream('s'); -- they had expired
ROLLBACK TO restored;
UPDATE profile_stream_internal.stream_offsets SET applied = 0;
SELECT profile_stream.resume_stream('s');
ROLLBACK;

-- a stream of another cluster, as in a copy of a server
BEGIN;
SELECT profile_stream.create_stream('states', bootstrap_servers => '127.0.0.1:1', redis => '127.0.0.1:1');
-- a small server may have no free place for a worker
SELECT cluster = profile_stream_internal.current_cluster() AS ours, state IN ('starting', 'no_worker_slot') AS made FROM profile_stream_internal.stream_status;
UPDATE profile_stream_internal.stream_status SET cluster = 'origin', state = 'running';
SELECT state, error ~ 'belongs to cluster "origin", and this server is of cluster' AS told, hint ~ 'resume_stream\(\)' AS hinted FROM profile_stream.stat_streams;
SELECT sink, state FROM profile_stream.stat_sinks;
SELECT profile_stream.start_streams();
SELECT state FROM profile_stream_internal.stream_status;
SELECT profile_stream.pause_stream('states');
SELECT state, cluster FROM profile_stream.stat_streams JOIN profile_stream_internal.stream_status USING (state);
SELECT profile_stream.resume_stream('states');
SELECT cluster = profile_stream_internal.current_cluster() AS ours FROM profile_stream_internal.stream_status;
SELECT what, part, from_state, to_state, reason IS NOT NULL AS reason, lasted >= '0' AS lasted FROM profile_stream.stream_log
WHERE stream = 'states' AND to_state <> 'no_worker_slot' ORDER BY log_id;
ROLLBACK;

-- the log stays small, and says nothing of who is forgotten
BEGIN;
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1');
INSERT INTO profile_stream.stream_log (logged_at, stream, what, to_state, reason) SELECT now(), 's', 'stream', 'retrying', 'customer "log-victim" is kept' FROM generate_series(1, 10100);
SELECT profile_stream.pause_stream('s');
SELECT count(*) <= 10000 AS bounded, bool_or(to_state = 'paused') AS newest FROM profile_stream.stream_log;
SELECT profile_stream.forget_customer('log-victim');
SELECT count(*) FROM profile_stream.stream_log WHERE reason ~ 'log-victim';
INSERT INTO profile_stream.stream_log (logged_at, stream, what, to_state) VALUES (now(), 's', 'weather', 'running');
ROLLBACK;

-- a partition that does not move is not running without an error
BEGIN;
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1');
UPDATE profile_stream_internal.stream_status SET state = 'running';
INSERT INTO profile_stream_internal.stream_offsets (stream_id, partition, start_offset, next_offset, read_offset, error) SELECT stream_id, 3, 0, 0, 0, 'Local: Bad message format' FROM profile_stream.streams;
SELECT error, hint FROM profile_stream.stat_streams;
ROLLBACK;

-- a stream that does not run: what its last processes said is not what to do, as when the server was restarted without the library
BEGIN;
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', redis => '127.0.0.1:1');
INSERT INTO profile_stream_internal.sink_status (stream_id, sink, state, error, hint, error_at, next_attempt_at)
	SELECT stream_id, 'redis', 'retrying', 'Connection refused', 'See Redis.', now(), now() - interval '1 hour' FROM profile_stream.streams;
UPDATE profile_stream_internal.stream_status SET state = 'retrying', error = 'no broker', hint = 'See the brokers.', error_at = now(), next_attempt_at = now() - interval '1 hour';
SELECT state, hint FROM profile_stream.stat_streams UNION ALL SELECT state, hint FROM profile_stream.stat_sinks;
-- while somebody still tries, it is
UPDATE profile_stream_internal.stream_status SET next_attempt_at = now() + interval '1 minute';
UPDATE profile_stream_internal.sink_status SET next_attempt_at = now() + interval '1 minute';
SELECT state, hint FROM profile_stream.stat_streams UNION ALL SELECT state, hint FROM profile_stream.stat_sinks;
UPDATE profile_stream_internal.stream_status SET state = 'quarantined', next_attempt_at = NULL;
UPDATE profile_stream_internal.sink_status SET next_attempt_at = NULL;
SELECT state, hint FROM profile_stream.stat_streams;
SELECT profile_stream.pause_stream('s');
SELECT state, hint FROM profile_stream.stat_sinks;
-- and of a rebuild
SELECT profile_stream.rebuild('s');
UPDATE profile_stream_rebuild.stream_status SET state = 'retrying', error = 'no broker', hint = 'See the brokers.', changed_at = now() - interval '1 minute';
SELECT state, hint FROM profile_stream.stat_rebuilds;
UPDATE profile_stream_rebuild.stream_status SET state = 'no_worker_slot';
SELECT state, hint FROM profile_stream.stat_rebuilds;
ROLLBACK;
