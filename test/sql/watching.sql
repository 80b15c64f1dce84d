-- What a monitor and an analyst see, and that it names nobody.
\set VERBOSITY terse
SET client_min_messages = error;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters;
CREATE ROLE regress_watch IN ROLE pg_monitor;
CREATE ROLE regress_analyst IN ROLE profile_stream_bi;
CREATE ROLE regress_support IN ROLE profile_stream_support;
SELECT count(profile_stream.apply_event(jsonb_build_object('eventId', i, 'customerId', 'ada' || i % 2, 'eventType', e.type, 'timestamp', now() - interval '1 hour', 'payload', e.payload)))
FROM (VALUES (1, 'customer.profile.updated', '{"firstName": "Ada", "email": "ada@example.com"}'::jsonb), (2, 'transaction.completed', '{"amount": 10}'),
	(3, 'session.started', '{"channel": "app"}'), (4, 'transaction.completed', '{"amount": 5}')) e (i, type, payload);

-- a stream that failed with words of an event, a sink, a partition that is lost
BEGIN;
SELECT profile_stream.create_stream('watched', bootstrap_servers => '127.0.0.1:1', redis => '127.0.0.1:1');
UPDATE profile_stream_internal.stream_status SET state = 'retrying', error = 'ada@example.com is wrong', hint = 'Mend it.', error_at = now(), since = now() - interval '1 hour', next_attempt_at = now() + interval '1 minute';
INSERT INTO profile_stream_internal.stream_offsets (stream_id, partition, start_offset, next_offset, read_offset, state, error)
	SELECT stream_id, 0, 0, 7, 7, 'offset_lost', 'ada' FROM profile_stream.streams WHERE name = 'watched';
INSERT INTO profile_stream_internal.dead_letters (stream, value, kind, errors, dead_at) SELECT 'watched', 'ada', 'invalid', '{ada}', now() FROM generate_series(1, 12);
INSERT INTO profile_stream.stream_log (logged_at, stream, what, to_state, reason, hint) VALUES (now(), 'watched', 'stream', 'retrying', 'ada@example.com is wrong', 'ask ada');
INSERT INTO profile_stream_internal.backfills (stream_id, name, owner, query, state, started_at, error)
	SELECT s.stream_id, b.name, s.owner, 'SELECT 1', b.state, now(), b.error FROM profile_stream.streams s, (VALUES ('old', 'failed', 'ada'), ('older', 'running', NULL), ('oldest', 'done', NULL)) b(name, state, error);
SET LOCAL ROLE regress_watch;
SELECT stream, state, error, hint FROM profile_stream.monitor_streams();
SELECT stream, partition, state, error FROM profile_stream.monitor_partitions();
SELECT stream, sink, error FROM profile_stream.monitor_sinks();
SELECT status, subject, problem ~ 'retrying|offset_lost|12 in|failed|interrupted|shared|librdkafka|by itself' AS told, since = now() AS now, since = now() - interval '1 hour' AS hour, action FROM profile_stream.health() WHERE subject !~ '^(server|librdkafka|process [0-9]|sink|disk)';
SELECT count(*) AS quoted FROM profile_stream.health() h WHERE h::text ~ 'ada';
SELECT stream, what, to_state, reason, hint FROM profile_stream.monitor_log() WHERE stream = 'watched';
SELECT count(*) AS workers FROM profile_stream.monitor_workers();
-- whatever a monitor may call or read says nothing of ada, also where she is all over the tables
SELECT f.name, count(*) FILTER (WHERE f.found ~ 'ada') AS quoted FROM (
	SELECT 'streams' AS name, x::text AS found FROM profile_stream.monitor_streams() x UNION ALL SELECT 'partitions', x::text FROM profile_stream.monitor_partitions() x
	UNION ALL SELECT 'sinks', x::text FROM profile_stream.monitor_sinks() x UNION ALL SELECT 'log', x::text FROM profile_stream.monitor_log() x
	UNION ALL SELECT 'storage', x::text FROM profile_stream.stat_storage x UNION ALL SELECT 'activity', a.query || a.application_name FROM pg_stat_activity a WHERE a.backend_type ~ '^profile_stream') f
GROUP BY 1 HAVING count(*) FILTER (WHERE f.found ~ 'ada') > 0 OR f.name IN ('streams', 'partitions', 'log') ORDER BY 1;
SELECT count(*) > 20 AS tables, bool_and(table_bytes >= 0 AND holds IS NOT NULL) AS told FROM profile_stream.stat_storage;
ROLLBACK;
SET ROLE regress_watch;
\set VERBOSITY sqlstate
SELECT count(*) FROM profile_stream.stat_streams;
SELECT count(*) FROM profile_stream.materialized_profiles;
SELECT count(*) FROM profile_stream.dead_letters;
SELECT profile_stream.get_profile('ada1');
\set VERBOSITY terse
RESET ROLE;

-- how tables grow, by what upkeep noted; the newest sample is too young, and one of another time does not count
BEGIN;
DELETE FROM profile_stream_internal.storage_samples;
SET LOCAL ROLE regress_watch;
SELECT count(growth_bytes_per_day) AS known, profile_stream.storage_days_left(1000000000000) AS days_left FROM profile_stream.stat_storage;
RESET ROLE;
INSERT INTO profile_stream_internal.storage_samples (schema, "table", sampled_at, bytes)
	SELECT s.schema, s."table", now() - a.age, s.table_bytes + s.index_bytes - a.less FROM profile_stream.stat_storage s,
		(VALUES (interval '59 minutes', 1), (interval '2 days', 2000000), (interval '1 day', 3), (interval '8 days', 4), (interval '-1 day', 5)) a(age, less)
	WHERE s.schema = 'profile_stream' AND s."table" = 'materialized_profiles';
SET LOCAL ROLE regress_watch;
SELECT "table", growth_bytes_per_day FROM profile_stream.stat_storage WHERE growth_bytes_per_day IS NOT NULL;
SELECT profile_stream.storage_days_left(pg_database_size(current_database()) + 25000000) AS days_left, profile_stream.storage_days_left(1) AS full;
RESET ROLE;
SELECT profile_stream.create_stream('old', bootstrap_servers => '127.0.0.1:1');
SELECT oldest_at = (SELECT min(logged_at) FROM profile_stream.stream_log) AS oldest FROM profile_stream.stat_storage WHERE "table" = 'stream_log';
-- as ANALYZE saw it, however the session writes times
INSERT INTO profile_stream.materialized_profiles (customer_id, version, updated_at, watermark, first_event_at)
	SELECT 'old' || i, 1, now(), now(), '1975-06-01T12:00:00Z'::timestamptz + i * interval '1 hour' FROM generate_series(0, 20) i;
ANALYZE profile_stream.materialized_profiles;
SET LOCAL datestyle = 'SQL, DMY';
SET LOCAL timezone = 'Asia/Manila';
SELECT extract(epoch FROM oldest_at - '1975-06-01T12:00:00Z'::timestamptz) AS seconds_off FROM profile_stream.stat_storage WHERE schema = 'profile_stream' AND "table" = 'materialized_profiles';
SET LOCAL timezone = 'XYZ3';
SELECT extract(epoch FROM oldest_at - '1975-06-01T12:00:00Z'::timestamptz) AS seconds_off FROM profile_stream.stat_storage WHERE schema = 'profile_stream' AND "table" = 'materialized_profiles';
ROLLBACK;

-- what a monitor calls every few seconds is not compiled each time, which takes seconds
SELECT p.proname, p.proconfig @> '{jit=off}' AS without_jit FROM pg_proc p WHERE p.pronamespace = 'profile_stream'::regnamespace AND p.proname ~ '^(health|monitor_(streams|partitions|sinks))$' ORDER BY 1;

-- health(): what lasts too little or is too long ago is no problem
CREATE VIEW regress_health AS SELECT status, subject, regexp_replace(problem, '\d+\.\d+\.\d+', 'X', 'g') AS problem, date_trunc('minute', now() - since) AS ago, action FROM profile_stream.health()
	WHERE status <> 'ok' AND subject !~ '^(server|librdkafka|process [0-9]|disk)' AND problem !~ '^is not_running';
BEGIN;
SELECT profile_stream.create_stream('sick', bootstrap_servers => '127.0.0.1:1', redis => '127.0.0.1:1'), profile_stream.create_stream('well', bootstrap_servers => '127.0.0.1:1', redis => '127.0.0.1:1');
SELECT * FROM regress_health;
INSERT INTO profile_stream_internal.process_counters (stream_id, process, registration, restarts_in_row, restarting_since, restarted_at)
	SELECT s.stream_id, p.process, 1, p.restarts, now() - p.begun, now() - p.ended FROM profile_stream.streams s JOIN (VALUES ('sick', 'worker 0', 3, interval '25 minutes', interval '9 minutes'), ('sick', 'redis', 1, '1 minute', '1 minute'),
		('well', 'worker 0', 2, '25 minutes', '9 minutes'), ('well', 'redis', 7, '25 minutes', '11 minutes')) p (stream, process, restarts, begun, ended) ON s.name = p.stream;
UPDATE profile_stream_internal.stream_status t SET order_logged_at = now() - CASE s.name WHEN 'sick' THEN interval '9 minutes' ELSE '11 minutes' END FROM profile_stream.streams s WHERE s.stream_id = t.stream_id;
INSERT INTO profile_stream.stream_log (logged_at, stream, what, part, from_state, to_state)
	SELECT now() - l.age, l.stream, l.what, l.part, l.from_state, l.to_state FROM (VALUES ('sick', 'stream', NULL, 'running', 'retrying', interval '59 minutes'), ('sick', 'sink', 'redis', 'idle', 'retrying', '59 minutes'),
		('well', 'stream', NULL, 'running', 'retrying', '61 minutes'), ('well', 'stream', NULL, 'running', 'waiting', '1 minute'), ('well', 'sink', 'redis', 'retrying', 'retrying', '1 minute')) l (stream, what, part, from_state, to_state, age), generate_series(1, 5);
INSERT INTO profile_stream.stream_log (logged_at, stream, what, from_state, to_state) SELECT now(), 'well', 'stream', 'running', 'retrying' FROM generate_series(1, 4);
INSERT INTO profile_stream_internal.sink_status (stream_id, sink, state, refused) SELECT s.stream_id, 'redis', 'idle', CASE s.name WHEN 'sick' THEN 2 ELSE 0 END FROM profile_stream.streams s;
UPDATE profile_stream_internal.stream_status SET stats_reset = now() - interval '3 hours';
SELECT * FROM regress_health;
SAVEPOINT versions;
UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'profile_stream';
CREATE FUNCTION pg_temp.look() RETURNS void LANGUAGE sql AS '';
SELECT * FROM regress_health WHERE subject = 'profile_stream';
UPDATE pg_extension SET extversion = '99.0.0' WHERE extname = 'profile_stream';
CREATE OR REPLACE FUNCTION pg_temp.look() RETURNS void LANGUAGE sql AS '';
SELECT * FROM regress_health WHERE subject = 'profile_stream';
ROLLBACK TO versions;
-- a disk that fills in a fortnight, in a day, and one that was measured too short a time to tell
SELECT holds, bytes > free_bytes AND free_bytes > 0 AS told FROM profile_stream_internal.disks WHERE holds = 'data';
CREATE FUNCTION pg_temp.disk(age interval, days_left numeric) RETURNS TABLE (status text, problem text, ago interval, days int) LANGUAGE sql AS $$
	DELETE FROM profile_stream_internal.storage_samples;
	INSERT INTO profile_stream_internal.storage_samples (schema, "table", sampled_at, bytes)
		SELECT 'file system', d.holds, now() - disk.age, d.bytes - d.free_bytes - d.free_bytes * extract(epoch FROM disk.age) / 86400 / disk.days_left FROM profile_stream_internal.disks d WHERE d.holds = 'data';
	SELECT h.status, regexp_replace(h.problem, '[0-9.]+ (bytes|.B)|\.\d+', '', 'g'), now() - h.since, round(profile_stream.storage_days_left())::int
		FROM (SELECT) x LEFT JOIN profile_stream.health() h ON h.subject = 'disk of data' $$;
SELECT * FROM pg_temp.disk('2 days', 12.2);
SELECT * FROM pg_temp.disk('2 days', 20);
SELECT * FROM pg_temp.disk('2 days', 0.3);
SELECT * FROM pg_temp.disk('2 hours', 12.2);
SELECT * FROM pg_temp.disk('2 hours', 0.3);
SELECT * FROM pg_temp.disk('30 minutes', 0.3);
ROLLBACK;
-- a refresh that left profiles out
BEGIN;
DELETE FROM profile_stream_internal.score_refresh;
INSERT INTO profile_stream_internal.score_refresh (state, started_at, pid, profiles_total, committed_at) VALUES ('done', now() - interval '2 hours', 1, 9, now());
SELECT * FROM regress_health;
UPDATE profile_stream_internal.score_refresh SET profiles_failed = 7;
SELECT * FROM regress_health;
ROLLBACK;
DROP VIEW regress_health;

-- nothing is wrong
SELECT count(*) > 0 AS says, count(*) FILTER (WHERE status = 'error') AS errors FROM profile_stream.health();

-- an analyst: numbers, and NULL for what nobody said
SET ROLE regress_analyst;
SELECT customer_id, events, transaction_count_30d, total_transaction_value_30d, preferred_channel, segment, churn_risk_score, lifetime_value, scored_at FROM profile_stream.bi_profiles ORDER BY 1;
SELECT profile_stream.metric_value('ada0', 'total_transaction_value_30d');
SELECT sum(d.sum) FROM profile_stream.metric_days('total_transaction_value_30d', current_date - 2, current_date + 1) d;
\set VERBOSITY sqlstate
SELECT email FROM profile_stream.materialized_profiles;
SELECT attributes FROM profile_stream.materialized_profiles;
SELECT count(*) FROM profile_stream.profiles;
SELECT profile_stream.get_profile('ada1');
SELECT count(*) FROM profile_stream.dead_letters;
\set VERBOSITY terse
RESET ROLE;
-- the last refresh scored them
CALL profile_stream.refresh_scores('0');
SET ROLE regress_analyst;
SELECT customer_id, preferred_channel, segment, churn_risk_score IS NOT NULL AS risk, scored_at IS NOT NULL AS scored FROM profile_stream.bi_profiles ORDER BY 1;
RESET ROLE;
-- support recognises a customer, and reaches nobody
SELECT profile_stream.apply_event(jsonb_build_object('eventId', 'm' || i, 'customerId', 'masked' || i, 'eventType', 'customer.profile.updated', 'timestamp', now(), 'payload', e.payload)) FROM (VALUES
	(1, '{"firstName": "Ada", "lastName": "Lovelace", "email": "ada@example.com", "phone": "+43 1 555 0199"}'::jsonb), (2, '{"firstName": "É", "email": "no address", "phone": "01199"}'),
	(3, '{"email": "@example.com"}'), (4, '{}')) e (i, payload);
SET ROLE regress_support;
SELECT customer_id, first_name, last_name, email, phone, events FROM profile_stream.masked_profiles WHERE customer_id ~ 'masked' ORDER BY 1;
SELECT count(*) FROM profile_stream.segment_changes WHERE customer_id = 'ada0';
\set VERBOSITY sqlstate
SELECT profile_stream_internal.masked('ada0', 'email');
SELECT count(*) FROM profile_stream.profiles;
SELECT profile_stream.get_profile('ada0');
\set VERBOSITY terse
RESET ROLE;
-- views of all nodes show this one where there is no other
SELECT node, node_error, count(*) FROM profile_stream.node_streams GROUP BY 1, 2;
SELECT node, node_error, sink FROM profile_stream.node_sinks;
SELECT count(*) FROM profile_stream.node_score_refresh WHERE node IS NOT NULL OR node_error IS NOT NULL;
SELECT DISTINCT node, status = ANY ('{ok,warning,error}') AS known FROM profile_stream.node_health;
-- who is hidden by row security is hidden in the masked view, too
ALTER TABLE profile_stream.materialized_profiles ENABLE ROW LEVEL SECURITY;
CREATE POLICY regress ON profile_stream.materialized_profiles TO regress_support USING (customer_id = 'masked1');
SET ROLE regress_support;
SELECT customer_id, email FROM profile_stream.masked_profiles;
RESET ROLE;
DROP POLICY regress ON profile_stream.materialized_profiles;
ALTER TABLE profile_stream.materialized_profiles DISABLE ROW LEVEL SECURITY;

-- what nobody has said is NULL in profiles, and what somebody has said is not: an app, a segment that a seed brought; documents have their defaults all the same
SELECT profile_stream.seed_profile('said1', '{"segment": "gold"}'), profile_stream.seed_profile('said2', '{"preferredChannel": "app", "lifetimeValue": 7}'), profile_stream.seed_profile('said3', '{}');
SELECT profile_stream.apply_event(jsonb_build_object('eventId', 'said4', 'customerId', 'said4', 'eventType', 'session.started', 'timestamp', now()));
SELECT customer_id, first_name, last_name, email, phone, preferred_channel, segment, churn_risk_score, lifetime_value, scored_at, changed_at FROM profile_stream.profiles WHERE customer_id ~ 'said' ORDER BY 1;
SELECT customer_id, data -> 'firstName' AS first_name, data -> 'preferredChannel' AS channel, data -> 'segment' AS segment, data -> 'churnRiskScore' AS risk, data -> 'lifetimeValue' AS value
FROM profile_stream.profile_documents WHERE customer_id ~ 'said' ORDER BY 1;
-- who analyses sees the same
SELECT count(*) AS customers, count(*) FILTER (WHERE (p.segment, p.churn_risk_score, p.lifetime_value::numeric(38,4), p.preferred_channel, p.scored_at, p.changed_at)
	IS DISTINCT FROM (b.segment, b.churn_risk_score, b.lifetime_value, b.preferred_channel, b.scored_at, b.changed_at)) AS differ
FROM profile_stream.profiles p JOIN profile_stream.bi_profiles b USING (customer_id) WHERE customer_id ~ 'said';
-- live segments see what the view shows
SELECT profile_stream.create_segment('regress no channel', 'preferred_channel IS NULL', 'live'), profile_stream.create_segment('regress no name', 'first_name = ''''', 'live'),
	profile_stream.create_segment('regress unscored', 'segment IS NULL AND churn_risk_score IS NULL AND lifetime_value IS NULL', 'live'), profile_stream.create_segment('regress seeded', 'segment = ''gold'' OR lifetime_value = 7', 'live');
CALL profile_stream.refresh_segments();
SELECT profile_stream.apply_event(jsonb_build_object('eventId', 'e' || c, 'customerId', c, 'eventType', 'noop', 'timestamp', now())) FROM unnest('{said1,said2,said3,said5}'::text[]) c;
SELECT s.name, m.members, p.members IS NOT DISTINCT FROM m.members AS as_in_view FROM profile_stream_internal.segments s
	CROSS JOIN LATERAL (SELECT string_agg(m.customer_id, ' ' ORDER BY m.customer_id) AS members FROM profile_stream.segment_members m WHERE m.segment = s.name AND m.customer_id ~ 'said') m
	CROSS JOIN LATERAL (SELECT string_agg(p.customer_id, ' ' ORDER BY p.customer_id) AS members FROM profile_stream.profiles p WHERE p.customer_id ~ 'said' AND CASE s.name
		WHEN 'regress no channel' THEN p.preferred_channel IS NULL WHEN 'regress no name' THEN p.first_name = ''
		WHEN 'regress unscored' THEN p.segment IS NULL AND p.churn_risk_score IS NULL AND p.lifetime_value IS NULL ELSE p.segment = 'gold' OR p.lifetime_value = 7 END) p
WHERE s.name ~ 'regress' ORDER BY 1;

-- sums have a scale for tools, and the view fails for none
SELECT profile_stream.apply_event(jsonb_build_object('eventId', 'sum' || i, 'customerId', 'sum', 'eventType', e.type, 'timestamp', now(), 'payload', e.payload)) FROM (VALUES
	(1, 'account.opened', '{"initialBalance": 99999999999999999999999999999999999999}'::jsonb), (2, 'account.opened', '{"initialBalance": 99999999999999999999999999999999999999}'),
	(3, 'transaction.completed', '{"amount": -99999999999999999999999999999999999999}'), (4, 'transaction.completed', '{"amount": 0.12345678}')) e (i, type, payload);
SELECT total_balance, total_transaction_value_30d FROM profile_stream.profiles WHERE customer_id = 'sum';
SELECT total_balance, total_transaction_value_30d FROM profile_stream.bi_profiles WHERE customer_id = 'sum';
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.oid IN ('profile_stream.bi_profiles'::regclass, 'profile_stream.masked_profiles'::regclass) AND a.atttypid = 'numeric'::regtype ORDER BY 1, a.attnum;

-- counts of the day: all, those of scores, those of rules; each refresh counts anew, and old days go
CALL profile_stream.refresh_scores('0');
INSERT INTO profile_stream_internal.segment_day_counts (slot, day, kind, segment, customers, counted_at, shards) SELECT '', (now() AT TIME ZONE 'UTC')::date - d, 'all', 'all', 1, now() - d * interval '1 day', 1 FROM unnest('{1000,1100}'::int[]) d;
SELECT profile_stream.apply_event(jsonb_build_object('eventId', 'new', 'customerId', 'unscored', 'eventType', 'noop', 'timestamp', now()));
CALL profile_stream.refresh_segments();
SELECT c.kind, c.segment, c.customers, c.day = (now() AT TIME ZONE 'UTC')::date AS today, c.customers = CASE c.kind WHEN 'all' THEN (SELECT count(*) FROM profile_stream.profiles)
	WHEN 'rule' THEN (SELECT count(*) FROM profile_stream.segment_members m WHERE m.segment = c.segment)
	WHEN 'unscored' THEN (SELECT count(*) FROM profile_stream.profiles p WHERE p.segment IS NULL)
	ELSE (SELECT count(*) FROM profile_stream.profiles p WHERE p.segment = c.segment) END AS exact
FROM profile_stream.segment_counts c WHERE c.counted_at > now() - interval '1 day' ORDER BY 1, 2;
SELECT (now() AT TIME ZONE 'UTC')::date - day AS days_ago, kind, segment, customers FROM profile_stream.segment_counts WHERE counted_at < now() - interval '1 day';
-- who is forgotten was counted once, and is not any more
SELECT profiles FROM profile_stream.forget_customer('unscored');
CALL profile_stream.refresh_scores('0');
SELECT kind, segment, customers FROM profile_stream.segment_counts WHERE counted_at > now() - interval '1 day' AND kind IN ('all', 'unscored');
SELECT profile_stream.drop_segment(name) FROM profile_stream_internal.segments WHERE name ~ 'regress';

-- a view of everything that is mapped and created, described
SELECT profile_stream.map_attribute('regress', 'regress_tier', '$.tier'), profile_stream.map_attribute('regress', 'first_name', '$.name'), profile_stream.create_metric('regress_seen', 'regress', '1 day');
SELECT profile_stream.create_profile_view('regress_all', NULL, NULL);
SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type, col_description(a.attrelid, a.attnum) FROM pg_attribute a WHERE a.attrelid = 'public.regress_all'::regclass AND a.attnum > 23 ORDER BY a.attnum;
SELECT count(*) AS without_comment FROM pg_attribute a WHERE a.attrelid = 'public.regress_all'::regclass AND a.attnum > 0 AND col_description(a.attrelid, a.attnum) IS NULL;
SELECT count(*) AS differences FROM (SELECT to_jsonb(p) FROM profile_stream.profiles p EXCEPT SELECT to_jsonb(v) - 'regress_tier' - 'regress_seen' FROM public.regress_all v) d;
SELECT profile_stream.create_profile_view(NULL);
DROP VIEW public.regress_all;
SELECT profile_stream.unmap_attribute('regress', 'regress_tier'), profile_stream.unmap_attribute('regress', 'first_name'), profile_stream.drop_metric('regress_seen');

-- all that any of them may read or call
SELECT r.role, c.oid::regclass AS reads, a.columns FROM unnest('{profile_stream_monitor,profile_stream_bi,profile_stream_support}'::text[]) r (role), pg_class c
	CROSS JOIN LATERAL (SELECT string_agg(k.attname, ' ' ORDER BY k.attnum) AS columns FROM pg_attribute k
		WHERE k.attrelid = c.oid AND k.attnum > 0 AND NOT k.attisdropped AND has_column_privilege(r.role, c.oid, k.attnum, 'SELECT')) a
WHERE c.relnamespace::regnamespace::text ~ '^profile_stream' AND c.relkind IN ('r', 'p', 'v') AND a.columns IS NOT NULL ORDER BY 1, c.relname COLLATE "C";
SELECT r.role, string_agg(p.proname, ' ' ORDER BY p.proname COLLATE "C") AS calls FROM unnest('{profile_stream_monitor,profile_stream_bi,profile_stream_support}'::text[]) r (role), pg_proc p
WHERE p.pronamespace::regnamespace::text ~ '^profile_stream' AND has_function_privilege(r.role, p.oid, 'EXECUTE') GROUP BY 1 ORDER BY 1;
TRUNCATE profile_stream.materialized_profiles, profile_stream.segment_changes, profile_stream_internal.segment_day_counts, profile_stream_internal.seeds;
DROP ROLE regress_watch, regress_analyst, regress_support;
