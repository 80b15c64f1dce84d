-- What a monitor and an analyst see, and that it names nobody.
\set VERBOSITY terse
SET client_min_messages = error;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters;
CREATE ROLE regress_watch IN ROLE pg_monitor;
CREATE ROLE regress_analyst IN ROLE profile_stream_bi;
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
INSERT INTO profile_stream_internal.backfills (stream_id, name, owner, query, state, started_at, error)
	SELECT s.stream_id, b.name, s.owner, 'SELECT 1', b.state, now(), b.error FROM profile_stream.streams s, (VALUES ('old', 'failed', 'ada'), ('older', 'running', NULL), ('oldest', 'done', NULL)) b(name, state, error);
SET LOCAL ROLE regress_watch;
SELECT stream, state, error, hint FROM profile_stream.monitor_streams();
SELECT stream, partition, state, error FROM profile_stream.monitor_partitions();
SELECT stream, sink, error FROM profile_stream.monitor_sinks();
SELECT status, subject, problem ~ 'retrying|offset_lost|12 in|failed|interrupted|shared|librdkafka|by itself' AS told, action FROM profile_stream.health() WHERE subject !~ '^(server|librdkafka|process|sink)';
SELECT count(*) AS quoted FROM profile_stream.health() h WHERE h::text ~ 'ada';
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
-- all that either may read or call
SELECT r.role, c.oid::regclass AS reads, a.columns FROM unnest('{profile_stream_monitor,profile_stream_bi}'::text[]) r (role), pg_class c
	CROSS JOIN LATERAL (SELECT string_agg(k.attname, ' ' ORDER BY k.attnum) AS columns FROM pg_attribute k
		WHERE k.attrelid = c.oid AND k.attnum > 0 AND NOT k.attisdropped AND has_column_privilege(r.role, c.oid, k.attnum, 'SELECT')) a
WHERE c.relnamespace::regnamespace::text ~ '^profile_stream' AND c.relkind IN ('r', 'p', 'v') AND a.columns IS NOT NULL ORDER BY 1, c.relname COLLATE "C";
SELECT r.role, string_agg(p.proname, ' ' ORDER BY p.proname COLLATE "C") AS calls FROM unnest('{profile_stream_monitor,profile_stream_bi}'::text[]) r (role), pg_proc p
WHERE p.pronamespace::regnamespace::text ~ '^profile_stream' AND has_function_privilege(r.role, p.oid, 'EXECUTE') GROUP BY 1 ORDER BY 1;
TRUNCATE profile_stream.materialized_profiles, profile_stream.segment_changes;
DROP ROLE regress_watch, regress_analyst;
