-- plain tables are read and written by hand, others with SQL: the outcome is the same
SET timezone = 'UTC';
\set SHOW_CONTEXT never
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\set functions :srcdir '/event_ids.sql'
\i :functions
\set ECHO all
SET client_min_messages = warning;
CREATE FUNCTION pg_temp.run(OUT outcomes text, OUT profiles text, OUT ids text, OUT chunks text) LANGUAGE plpgsql AS $$
DECLARE
	events jsonb[];
BEGIN
	TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
	-- ids come twice within a call, and again in the next; some of the first have expired by then
	FOR round IN 1..3 LOOP
		SELECT array_agg(jsonb_build_object('eventId', 'e' || i * 7 % (700 * round), 'customerId', 'c' || i * i % 7,
			'eventType', (ARRAY['transaction.completed', 'account.opened', 'session.started', 'customer.profile.updated', 'seen'])[1 + i % 5],
			'payload', jsonb_build_object('amount', i % 11, 'initialBalance', i, 'channel', 'ch' || i % 3, 'firstName', repeat('x', i % 40)),
			'timestamp', (1767225600 + i) * 1000::bigint) ORDER BY i)
		INTO events FROM generate_series(round * 400, round * 400 + 1500) i;
		outcomes := concat(outcomes, (SELECT md5(array_to_string(profile_stream.apply_events(events), ' '))));
		PERFORM testing.age_event_ids('c1', '8 days'), testing.age_event_ids('c4', '4 days');
	END LOOP;
	SELECT md5(string_agg((to_jsonb(p) - '{vip,event_ids}'::text[])::text, ' ' ORDER BY customer_id)) INTO profiles
	FROM profile_stream.materialized_profiles p;
	SELECT md5(string_agg(concat(customer_id, hash, applied_at < now() - interval '7 days'), ' ' ORDER BY customer_id, hash, applied_at < now() - interval '7 days')) INTO ids
	FROM profile_stream_internal.event_ids;
	SELECT md5(string_agg(c::text, ' ' ORDER BY customer_id, metric, chunk_no)) INTO chunks FROM profile_stream_internal.window_chunks c;
END $$;
CREATE TEMP TABLE plain AS SELECT * FROM pg_temp.run();
CREATE FUNCTION pg_temp.same() RETURNS boolean LANGUAGE sql AS
	$$ SELECT r::text = (SELECT f::text FROM plain f) FROM pg_temp.run() r $$;
SELECT count(*), sum(version) FROM profile_stream.materialized_profiles;
SELECT (SELECT count(*) FROM profile_stream_internal.event_ids), (SELECT count(*) FROM profile_stream_internal.window_chunks) > 0;
-- indexes of every kind are kept: partial, on an expression, summarizing, unique
CREATE INDEX by_channel ON profile_stream.materialized_profiles (preferred_channel) WHERE preferred_channel <> 'app';
CREATE INDEX by_domain ON profile_stream.materialized_profiles (upper(first_name));
CREATE INDEX by_update ON profile_stream.materialized_profiles USING brin (updated_at);
CREATE UNIQUE INDEX by_reverse ON profile_stream.materialized_profiles (reverse(customer_id));
CREATE INDEX by_sealing ON profile_stream_internal.event_id_chunks (sealed_to);
SELECT pg_temp.same() AS with_indexes;
SET enable_seqscan = off;
SELECT count(*) > 0, count(*) = (SELECT count(*) FROM profile_stream.materialized_profiles WHERE (preferred_channel || '') <> 'app')
FROM profile_stream.materialized_profiles WHERE preferred_channel <> 'app';
SELECT count(*) FROM profile_stream.materialized_profiles WHERE reverse(customer_id) = '2c';
RESET enable_seqscan;
-- what an index refuses is an error as in SQL
CREATE UNIQUE INDEX one_channel ON profile_stream.materialized_profiles (last_name) WHERE last_name <> '';
SELECT profile_stream.apply_events(ARRAY[
	'{"eventId": "u1", "customerId": "u1", "eventType": "customer.profile.updated", "timestamp": 1767225600000, "payload": {"lastName": "Same"}}',
	'{"eventId": "u2", "customerId": "u2", "eventType": "customer.profile.updated", "timestamp": 1767225600000, "payload": {"lastName": "Same"}}']::jsonb[]);
DROP INDEX profile_stream.by_channel, profile_stream.by_domain, profile_stream.by_update, profile_stream.by_reverse, profile_stream_internal.by_sealing, profile_stream.one_channel;
-- triggers
CREATE FUNCTION pg_temp.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER nothing BEFORE INSERT OR UPDATE ON profile_stream.materialized_profiles FOR EACH ROW EXECUTE FUNCTION pg_temp.nothing();
SELECT pg_temp.same() AS with_trigger_on_profiles;
CREATE TRIGGER nothing BEFORE INSERT OR UPDATE ON profile_stream_internal.event_id_chunks FOR EACH ROW EXECUTE FUNCTION pg_temp.nothing();
SELECT pg_temp.same() AS with_triggers;
DROP TRIGGER nothing ON profile_stream.materialized_profiles;
SELECT pg_temp.same() AS with_trigger_on_chunks;
DROP TRIGGER nothing ON profile_stream_internal.event_id_chunks;
-- row security, checks, columns of one's own, children
ALTER TABLE profile_stream.materialized_profiles ENABLE ROW LEVEL SECURITY;
SELECT pg_temp.same() AS with_row_security;
ALTER TABLE profile_stream.materialized_profiles DISABLE ROW LEVEL SECURITY;
ALTER TABLE profile_stream_internal.event_id_chunks ADD CONSTRAINT short CHECK (length(hashes) < 1000);
SELECT pg_temp.same() AS with_check;
ALTER TABLE profile_stream_internal.event_id_chunks DROP CONSTRAINT short;
CREATE TABLE child () INHERITS (profile_stream.materialized_profiles);
SELECT pg_temp.same() AS with_child;
DROP TABLE child;
BEGIN;
ALTER TABLE profile_stream.materialized_profiles ADD vip boolean;
SELECT pg_temp.same() AS with_column;
ALTER TABLE profile_stream.materialized_profiles DROP vip;
SELECT pg_temp.same() AS with_dropped_column;
ROLLBACK;
-- defaults are the table's
BEGIN;
ALTER TABLE profile_stream.materialized_profiles ALTER segment SET DEFAULT 'new';
SELECT profile_stream.apply_event('{"eventId": "s", "customerId": "s", "eventType": "seen", "timestamp": 1767225600000}');
SELECT segment, churn_risk_score, lifetime_value, attributes FROM profile_stream.materialized_profiles WHERE customer_id = 's';
ROLLBACK;
-- what batches compute is not touched by events
SELECT profile_stream.apply_event('{"eventId": "b1", "customerId": "b", "eventType": "seen", "timestamp": 1767225600000}');
UPDATE profile_stream.materialized_profiles SET segment = 'gold', lifetime_value = 12.5, attributes = jsonb_build_object('note', repeat('long ', 2000)) WHERE customer_id = 'b';
SELECT profile_stream.apply_event('{"eventId": "b2", "customerId": "b", "eventType": "seen", "timestamp": 1767225600000}');
SELECT version, segment, lifetime_value, length(attributes ->> 'note') FROM profile_stream.materialized_profiles WHERE customer_id = 'b';
-- savepoints, and several calls in one transaction
BEGIN;
SELECT profile_stream.apply_event('{"eventId": "t1", "customerId": "t", "eventType": "seen", "timestamp": 1767225600000}');
SAVEPOINT a;
SELECT profile_stream.apply_event('{"eventId": "t2", "customerId": "t", "eventType": "seen", "timestamp": 1767225600000}');
ROLLBACK TO a;
SELECT profile_stream.apply_event('{"eventId": "t2", "customerId": "t", "eventType": "seen", "timestamp": 1767225600000}');
SELECT profile_stream.apply_event('{"eventId": "t1", "customerId": "t", "eventType": "seen", "timestamp": 1767225600000}');
COMMIT;
SELECT version FROM profile_stream.materialized_profiles WHERE customer_id = 't';
-- event_counts that were changed by hand, or that grow a digit
SELECT profile_stream.apply_event('{"eventId": "n1", "customerId": "nils", "eventType": "noop", "timestamp": "2026-01-10T12:00:00Z"}');
CREATE FUNCTION pg_temp.counts(id text, counts jsonb) RETURNS jsonb LANGUAGE plpgsql AS
$$
BEGIN
	UPDATE profile_stream.materialized_profiles SET event_counts = counts WHERE customer_id = 'nils';
	PERFORM profile_stream.apply_event(jsonb_build_object('eventId', id, 'customerId', 'nils', 'eventType', 'noop', 'timestamp', '2026-01-10T12:00:00Z'));
	RETURN (SELECT event_counts FROM profile_stream.materialized_profiles WHERE customer_id = 'nils');
END
$$;
SELECT pg_temp.counts('n' || i, counts::jsonb) FROM (VALUES (2, '{"noop": 9998, "other": 7}'), (3, '{"noop": 9999}'), (4, '{"noop": 1.0}'),
	(5, '{"noop": 5, "x": "y"}'), (6, '{"noop": 5, "x": {"noop": 1}}'), (7, '[1]'), (8, '{}')) AS c(i, counts) ORDER BY i;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
