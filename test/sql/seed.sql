-- seed_profile(): a profile of another system becomes an event of the history
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
TRUNCATE profile_stream_internal.seeds;
\set VERBOSITY default
-- the document of the article, all members; the event counts as one
SELECT profile_stream.seed_profile('ada', '{"customerId": "ada", "version": 57, "lastUpdatedAt": "2026-01-10T12:00:00Z", "firstName": "Ada",
	"lastName": "Lovelace", "email": "ada@example.com", "phone": "+49 30 1", "totalBalance": 1200.50, "accountCount": 2,
	"lastTransactionDate": "2026-01-09T08:00:00Z", "transactionCount30d": 3, "totalTransactionValue30d": 100.00, "lastLoginDate": "2026-01-10T07:00:00Z",
	"loginCount7d": 2, "preferredChannel": "web", "segment": "loyal", "churnRiskScore": 0.25, "lifetimeValue": 4200, "eventCounts": {"transaction.completed": 40}}');
SELECT jsonb_pretty(profile_stream.get_profile('ada', '2026-01-10T12:00:00Z'));
-- windows hold at the time of the seed, and decay evenly
SELECT d AS days_later, profile_stream.metric_value('ada', 'transaction_count_30d', '2026-01-10T12:00:00Z'::timestamptz + d * interval '1 day') AS count,
	profile_stream.metric_value('ada', 'total_transaction_value_30d', '2026-01-10T12:00:00Z'::timestamptz + d * interval '1 day') AS value
FROM unnest('{0,9,10,11,20,21,30,31}'::int[]) d;
-- events go on from there; a second seed sets what it has, and leaves windows that have samples
SELECT profile_stream.apply_event('{"eventId": "t1", "customerId": "ada", "eventType": "transaction.completed", "timestamp": "2026-01-11T12:00:00Z", "payload": {"amount": 50}}');
SELECT profile_stream.seed_profile('ada', '{"lastName": null, "email": "", "preferredChannel": null, "totalBalance": null, "transactionCount30d": 500, "totalTransactionValue30d": 9,
	"lastTransactionDate": "2020-01-01", "attributes": {"tier": "gold", "address": {"city": "Berlin"}}, "eventCounts": {"transaction.completed": 1}}', '2026-01-12Z', source => 'crm');
SELECT first_name, last_name, email, preferred_channel, total_balance, account_count, last_transaction_at, segment, attributes, event_counts, version, updated_at
FROM profile_stream.profiles WHERE customer_id = 'ada';
SELECT profile_stream.metric_value('ada', 'transaction_count_30d', '2026-01-12Z') AS count, profile_stream.metric_value('ada', 'total_transaction_value_30d', '2026-01-12Z') AS value;
-- many samples fill chunks
SELECT profile_stream.seed_profile('many', '{"transactionCount30d": 10000, "totalTransactionValue30d": 12345.67, "loginCount7d": 200}', '2026-01-10Z');
SELECT profile_stream.metric_value('many', 'transaction_count_30d', '2026-01-10Z') AS count, profile_stream.metric_value('many', 'total_transaction_value_30d', '2026-01-10Z') AS value,
	profile_stream.metric_value('many', 'login_count_7d', '2026-01-10Z') AS logins, profile_stream.metric_value('many', 'transaction_count_30d', '2026-01-25Z') AS half;
-- a document of get_profile() is one
SELECT profile_stream.seed_profile('copy', profile_stream.get_profile('ada') - 'customerId') AS copied;
SELECT profile_stream.seed_profile('copy', profile_stream.get_profile('ada'));
-- an id counts once; the id is the event's
SELECT profile_stream.seed_profile('once', '{"accountCount": 1}', '2026-01-10Z', 'import-1'), profile_stream.seed_profile('once', '{"accountCount": 2}', '2026-01-10Z', 'import-1');
-- what is wrong is refused, and nothing of it stays
\set VERBOSITY terse
SELECT profile_stream.seed_profile('bad', '{"firstname": "x"}');
SELECT profile_stream.seed_profile('bad', '{"firstName": {"a": 1}}');
SELECT profile_stream.seed_profile('bad', '{"totalBalance": "much"}');
SELECT profile_stream.seed_profile('bad', '{"totalBalance": ""}');
SELECT profile_stream.seed_profile('bad', '{"accountCount": 1.5}');
SELECT profile_stream.seed_profile('bad', '{"accountCount": -1}');
SELECT profile_stream.seed_profile('bad', '{"version": "new"}');
SELECT profile_stream.seed_profile('bad', '{"lastUpdatedAt": "yesterday"}');
SELECT profile_stream.seed_profile('bad', '{"lastLoginDate": true}');
SELECT profile_stream.seed_profile('bad', '{"transactionCount30d": 10001}');
SELECT profile_stream.seed_profile('bad', '{"totalTransactionValue30d": 5}');
SELECT profile_stream.seed_profile('bad', '{"churnRiskScore": 1.01}');
SELECT profile_stream.seed_profile('bad', '{"segment": ""}');
SELECT profile_stream.seed_profile('bad', '{"eventCounts": [1]}');
SELECT profile_stream.seed_profile('bad', '{"eventCounts": {"a": "x"}}');
SELECT profile_stream.seed_profile('bad', '{"attributes": 7}');
SELECT profile_stream.seed_profile('bad', '{"metrics": {"spend": 7}}');
SELECT profile_stream.seed_profile('bad', '{"customerId": "other"}');
SELECT profile_stream.seed_profile('bad', '[1]');
SELECT profile_stream.seed_profile('bad', 'null');
SELECT profile_stream.seed_profile('bad', NULL);
SELECT profile_stream.seed_profile('', '{}');
SELECT profile_stream.seed_profile('bad', '{}', 'infinity');
SELECT profile_stream.seed_profile('bad', '{}', now() + interval '2 hours');
SELECT profile_stream.get_profile('bad'), count(*) AS letters FROM profile_stream.dead_letters;
-- as an event of a topic: a wrong one is a dead letter
SELECT profile_stream.apply_event('{"eventId": "s1", "customerId": "bob", "eventType": "profile.seeded", "timestamp": "2026-01-10T12:00:00Z", "payload": {"firstName": "Bob", "accountCount": "3"}}'),
	profile_stream.apply_event('{"eventId": "s2", "customerId": "bob", "eventType": "profile.seeded", "timestamp": "2026-01-10T12:00:00Z", "payload": {"first": "Bob"}}');
SELECT first_name, account_count, version FROM profile_stream.profiles WHERE customer_id = 'bob';
SELECT kind, errors FROM profile_stream.dead_letters;
-- a handler of the type that fails leaves nothing of the seed
SET client_min_messages = error;
CREATE FUNCTION public.no_gold(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF event -> 'payload' ->> 'segment' = 'gold' THEN RAISE EXCEPTION 'no gold'; END IF;
	RETURN profile;
END $$;
SELECT profile_stream.register_handler('profile.seeded', 'public.no_gold(jsonb, jsonb)');
SELECT profile_stream.apply_events(ARRAY[
	'{"eventId": "g1", "customerId": "eve", "eventType": "profile.seeded", "timestamp": "2026-01-10T12:00:00Z", "payload": {"segment": "gold", "accountCount": 9}}',
	'{"eventId": "g2", "customerId": "eve", "eventType": "account.opened", "timestamp": "2026-01-10T12:00:00Z"}']::jsonb[]);
SELECT account_count, segment, version FROM profile_stream.profiles WHERE customer_id = 'eve';
SELECT profile_stream.seed_profile('eve', '{"segment": "gold"}');
SELECT profile_stream.unregister_handler('profile.seeded', 'public.no_gold(jsonb,jsonb)');
DROP FUNCTION public.no_gold;
-- the events are kept for rebuilds, and go with the person
SELECT customer_id, event ->> 'eventId' LIKE 'seed-________-%' AS own_id, event ->> 'source' AS source FROM profile_stream_internal.seeds ORDER BY seed_id;
SELECT jsonb_array_length(profile_stream.export_customer('ada') -> 'seeds');
SELECT profiles FROM profile_stream.forget_customer('ada');
SELECT count(*) FROM profile_stream_internal.seeds WHERE customer_id = 'ada';
-- of a customer who is blocked nothing is taken
SELECT blocked FROM profile_stream.forget_customer('once', block => true);
SELECT profile_stream.seed_profile('once', '{"accountCount": 1}'), (SELECT count(*) FROM profile_stream_internal.seeds WHERE customer_id = 'once');
-- a rebuild that is under way would lack a seed
BEGIN;
SELECT profile_stream.create_stream('s', bootstrap_servers => '127.0.0.1:1');
SELECT profile_stream.rebuild('s');
SELECT profile_stream.seed_profile('bob', '{"accountCount": 1}');
ROLLBACK;
SELECT profile_stream.unblock_customer('once');
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.window_chunks, profile_stream_internal.dead_letters, profile_stream_internal.seeds;
