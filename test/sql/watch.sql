-- What a stream that watches names is told of, and the event that was applied last, as the outbox has them. No stream of this file ever runs.
\set VERBOSITY terse
SET client_min_messages = error;
SET timezone = 'UTC';
-- wrong names
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', watch => '{version}');
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', watch => '{segment,event_counts}');
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', watch => '{transaction_count_30d}');
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', watch => '{customer_id}');
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', watch => '{""}');
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', watch => '{tier,NULL}');
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1', watch => (SELECT array_agg('a' || n) FROM generate_series(1, 65) n));

BEGIN;
SELECT profile_stream.create_stream('all', bootstrap_servers => '127.0.0.1:1', changelog_topic => 'a', redis => 'localhost:1');
SELECT profile_stream.create_stream('money', bootstrap_servers => '127.0.0.1:1', changelog_topic => 'b', redis => 'localhost:1', watch => '{total_balance,segment,tier}');
SELECT profile_stream.create_stream('people', bootstrap_servers => '127.0.0.1:1', changelog_topic => 'c', watch => '{email,last_login_at,attributes}');
SELECT name, watch FROM profile_stream.streams ORDER BY 1;
SELECT profile_stream.map_attribute('tiered', 'tier', '$.tier'), profile_stream.map_attribute('tiered', 'seen', NULL, 'count');

-- Applies events of a type, each with a payload, and tells what each stream is told.
CREATE FUNCTION pg_temp.tell(events jsonb) RETURNS TABLE (stream text, sink text, customers text, event_types text, last_events text) LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM profile_stream_internal.outbox;
	PERFORM profile_stream.apply_events(array_agg(jsonb_build_object('eventId', COALESCE(e ->> 0, 'e'), 'customerId', e ->> 1, 'eventType', e ->> 2, 'payload', e -> 3,
		'source', e -> 4, 'timestamp', '2026-01-01T00:00:00Z'::timestamptz + n * interval '1 minute') ORDER BY n)) FROM jsonb_array_elements(events) WITH ORDINALITY AS x(e, n);
	RETURN QUERY SELECT s.name, o.sink, string_agg(u.c, ' ' ORDER BY u.c), string_agg(u.t, ' ' ORDER BY u.c), string_agg(u.e, ' ' ORDER BY u.c)
		FROM profile_stream_internal.outbox o JOIN profile_stream.streams s USING (stream_id), unnest(o.customer_ids, o.event_types, o.last_events) AS u(c, t, e)
		GROUP BY s.name, o.sink ORDER BY s.name, o.sink;
END $$;
-- an event that changes nothing that is watched; it is the last one that is told
SELECT * FROM pg_temp.tell('[["e1", "ada", "seen", {}, "web"], ["e2", "ada", "heard", {}, null], ["e3", "bob", "seen", {}, "app \"2\""]]');
-- columns, attributes, and all attributes
SELECT * FROM pg_temp.tell('[["f1", "ada", "account.opened", {"initialBalance": 5}, "core"], ["f2", "bob", "account.opened", {}, "core"], ["f3", "eve", "customer.profile.updated", {"email": "e@x"}, "crm"]]');
SELECT stream, customers FROM pg_temp.tell('[["g1", "ada", "tiered", {"tier": "gold"}], ["g2", "bob", "session.started", {"channel": "web"}]]');
-- the same value again is no change; attributes have changed, as they count
SELECT stream, customers FROM pg_temp.tell('[["h1", "ada", "tiered", {"tier": "gold"}], ["h2", "ada", "account.opened", {"initialBalance": 0.00}]]');
-- there and back in one transaction is no change either
SELECT stream, customers FROM pg_temp.tell('[["i1", "ada", "account.opened", {"initialBalance": 7}], ["i2", "ada", "account.opened", {"initialBalance": -7}]]');
-- a duplicate, and an event that is refused, change nothing
SELECT stream, customers FROM pg_temp.tell('[["f1", "ada", "account.opened", {"initialBalance": 5}], ["j1", "bob", "transaction.completed", {}]]');
-- a source that is long is cut
SELECT stream, length(last_events::jsonb ->> 'source') AS source, last_events::jsonb ->> 'eventId' AS id FROM pg_temp.tell(jsonb_build_array(jsonb_build_array('k1', 'ada', 'seen', '{}'::jsonb, repeat('é', 300)))) WHERE sink = 'changelog';
-- a function that changes what is watched
CREATE FUNCTION public.watch_handler(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql RETURN jsonb_set(profile, '{attributes,tier}', '"silver"');
SELECT profile_stream.register_handler('demoted', 'public.watch_handler(jsonb,jsonb)');
SELECT stream, customers FROM pg_temp.tell('[["l1", "ada", "demoted", {}], ["l2", "bob", "demoted", {}]]');
SELECT stream, customers FROM pg_temp.tell('[["m1", "ada", "demoted", {}]]');
-- an erasure is told to everybody, and forgets the event
DELETE FROM profile_stream_internal.outbox;
SELECT profiles FROM profile_stream.forget_customer('ada');
SELECT s.name, o.sink, o.customer_ids, o.last_events FROM profile_stream_internal.outbox o JOIN profile_stream.streams s USING (stream_id) ORDER BY s.name, o.sink;
-- other names from the next transaction on, and none
SELECT profile_stream.alter_stream('money', watch => '{phone}');
SELECT profile_stream.alter_stream('people', watch => '{}');
SELECT name, watch FROM profile_stream.streams ORDER BY 1;
ROLLBACK;

-- what other sessions see after a commit: alter_stream() reaches a session that has applied events before
SELECT profile_stream.apply_event('{"eventId": "w1", "customerId": "watched", "eventType": "seen", "timestamp": "2026-01-01T00:00:00Z"}');
BEGIN;
INSERT INTO profile_stream.streams (stream_id, name, owner, bootstrap_servers, topic, group_id, start_from, batch_size, batch_wait, dedupe_retention, on_offset_lost, notify, options, changelog_topic, watch, created_at)
	VALUES (99999, 'watcher', current_user::regrole, 'none', 't', 'g', 'earliest', 1, '0', '0', 'stop', 'off', '{}', 'u', '{email}', now());
INSERT INTO profile_stream_internal.stream_status (stream_id, database, enabled, state, changed_at) SELECT 99999, oid, false, 'paused', now() FROM pg_database WHERE datname = current_database();
COMMIT;
SELECT profile_stream.alter_stream('watcher', watch => '{email,phone}');
SELECT profile_stream.apply_event('{"eventId": "w2", "customerId": "watched", "eventType": "seen", "timestamp": "2026-01-01T00:00:00Z"}');
SELECT count(*) FROM profile_stream_internal.outbox;
SELECT profile_stream.apply_event('{"eventId": "w3", "customerId": "watched", "eventType": "customer.profile.updated", "timestamp": "2026-01-01T00:00:00Z", "payload": {"phone": "1"}}');
SELECT count(*) FROM profile_stream_internal.outbox;
SELECT profile_stream.alter_stream('watcher', watch => '{}');
SELECT profile_stream.apply_event('{"eventId": "w4", "customerId": "watched", "eventType": "seen", "timestamp": "2026-01-01T00:00:00Z"}');
SELECT customer_ids, event_types, last_events FROM profile_stream_internal.outbox ORDER BY outbox_id;
-- a refresh of scores: who watches none of what changed is not told
SELECT profile_stream.alter_stream('watcher', watch => '{phone,lifetime_value}');
DELETE FROM profile_stream_internal.outbox;
UPDATE profile_stream.materialized_profiles SET segment = 'unknown', churn_risk_score = 0.125, lifetime_value = 0, scored_at = NULL WHERE customer_id = 'watched';
CALL profile_stream.refresh_scores();
SELECT lifetime_value, churn_risk_score <> 0.125 AS churn FROM profile_stream.profiles WHERE customer_id = 'watched';
SELECT count(*) FROM profile_stream_internal.outbox WHERE 'watched' = ANY (customer_ids);
SELECT profile_stream.alter_stream('watcher', watch => '{churn_risk_score}');
UPDATE profile_stream.materialized_profiles SET churn_risk_score = 0.125, scored_at = NULL WHERE customer_id = 'watched';
CALL profile_stream.refresh_scores();
SELECT customer_ids, event_types, last_events FROM profile_stream_internal.outbox WHERE 'watched' = ANY (customer_ids);
SELECT profile_stream.drop_stream('watcher');
SELECT profiles FROM profile_stream.forget_customer('watched');
