-- apply_event() and apply_events(): handlers, versions, duplicates, dead letters
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\set functions :srcdir '/event_ids.sql'
\i :functions
\set ECHO all
CREATE FUNCTION pg_temp.ev(id text, customer text, type text, payload jsonb DEFAULT '{}', at text DEFAULT '2026-01-10T12:00:00Z')
RETURNS jsonb LANGUAGE sql AS
$$ SELECT jsonb_build_object('eventId', id, 'customerId', customer, 'eventType', type, 'payload', payload, 'timestamp', at) $$;
-- every handler
SELECT profile_stream.apply_events(ARRAY[
	pg_temp.ev('e1', 'ada', 'customer.profile.updated', '{"firstName": "Ada", "lastName": "Lovelace", "email": "ada@example.org", "phone": 4711}'),
	pg_temp.ev('e2', 'ada', 'account.opened', '{"initialBalance": 100.10}'),
	pg_temp.ev('e3', 'ada', 'account.opened', '{"initialBalance": "0.2"}'),
	pg_temp.ev('e4', 'ada', 'account.opened'),
	pg_temp.ev('e5', 'ada', 'transaction.completed', '{"amount": 12.50}', '2026-01-10T12:00:01.500Z'),
	pg_temp.ev('e6', 'ada', 'transaction.completed', '{"amount": "-2.25"}', '2026-01-10T12:00:02Z'),
	pg_temp.ev('e7', 'ada', 'session.started', '{"channel": "web"}'),
	pg_temp.ev('e8', 'ada', 'session.started', '{"channel": ""}'),
	pg_temp.ev('e9', 'ada', 'support.ticket.created'),
	pg_temp.ev('e10', 'ada', 'account.closed'),
	pg_temp.ev('e11', 'ada', 'card.blocked', '{"reason": [1, 2]}', '2026-01-09T00:00:00Z')]);
SELECT jsonb_pretty(profile_stream.get_profile('ada', '2026-01-11Z'));
SELECT version, updated_at, watermark FROM profile_stream.materialized_profiles;
-- a profile before anything but an unknown event
SELECT profile_stream.apply_event(pg_temp.ev('n1', 'nobody', 'noop'));
SELECT jsonb_pretty(profile_stream.get_profile('nobody', '2026-01-11Z'));
SELECT profile_stream.get_profile('unknown');
-- accounts never below zero
SELECT profile_stream.apply_events(ARRAY[pg_temp.ev('c1', 'zoe', 'account.closed'), pg_temp.ev('c2', 'zoe', 'account.opened'),
	pg_temp.ev('c3', 'zoe', 'account.closed'), pg_temp.ev('c4', 'zoe', 'account.closed')]);
SELECT account_count, version FROM profile_stream.materialized_profiles WHERE customer_id = 'zoe';
-- empty values leave the names as they are
SELECT profile_stream.apply_event(pg_temp.ev('e12', 'ada', 'customer.profile.updated', '{"firstName": "", "lastName": null, "email": "a@b"}'));
SELECT first_name, last_name, email, phone FROM profile_stream.materialized_profiles WHERE customer_id = 'ada';
-- duplicates: in one call, in a later one, for another customer, after a refusal
SELECT profile_stream.apply_events(ARRAY[
	pg_temp.ev('d1', 'dup', 'noop'), pg_temp.ev('d1', 'dup', 'noop'), pg_temp.ev('d1', 'dup2', 'noop'),
	pg_temp.ev('d2', 'dup', 'transaction.completed'), pg_temp.ev('d2', 'dup', 'transaction.completed', '{"amount": 1}'),
	pg_temp.ev('d2', 'dup', 'transaction.completed'), NULL]);
SELECT profile_stream.apply_events(ARRAY[
	pg_temp.ev('d1', 'dup', 'noop'), pg_temp.ev('d2', 'dup', 'transaction.completed'), pg_temp.ev('d3', 'dup', 'noop')]);
SELECT version, event_counts FROM profile_stream.materialized_profiles WHERE customer_id = 'dup';
SELECT e.customer_id, d.event_id FROM profile_stream_internal.event_ids e LEFT JOIN unnest('{d1,d2,d3}'::text[]) d(event_id)
	ON e.hash = profile_stream_internal.event_id_hash(d.event_id) WHERE e.customer_id LIKE 'dup%' ORDER BY 1, 2;
-- retention is exact but for a second: an id older than that is new again
BEGIN;
SELECT profile_stream.apply_events(ARRAY[pg_temp.ev('d4', 'dup', 'noop'), pg_temp.ev('d4', 'dup3', 'noop')]);
SELECT testing.age_event_ids('dup', '7 days 1 second'), testing.age_event_ids('dup3', '6 days 23:59');
SELECT profile_stream.apply_events(ARRAY[pg_temp.ev('d4', 'dup', 'noop'), pg_temp.ev('d4', 'dup3', 'noop'), pg_temp.ev('d4', 'dup', 'noop')]);
COMMIT;
-- refusals
SELECT profile_stream.apply_events(ARRAY[
	pg_temp.ev('r1', 'ref', 'transaction.completed'),
	pg_temp.ev('r2', 'ref', 'transaction.completed', '{"amount": "NaN"}'),
	pg_temp.ev('r3', 'ref', 'transaction.completed', '{"amount": "1e40"}'),
	pg_temp.ev('r31', 'ref', 'transaction.completed', '{"amount": "10e99999999999999999999"}'),
	pg_temp.ev('r32', 'ref', 'transaction.completed', '{"amount": "1e-99999999999999999999"}'),
	pg_temp.ev('r4', 'ref', 'transaction.completed', '{"amount": 123456789012345678901234567890123456789}'),
	pg_temp.ev('r5', 'ref', 'transaction.completed', '{"amount": true}'),
	pg_temp.ev('r6', 'ref', 'customer.profile.updated', '{"firstName": {"a": 1}}'),
	pg_temp.ev('r7', 'ref', 'customer.profile.updated', '{"phone": false}'),
	pg_temp.ev('r8', 'ref', 'session.started', '{"channel": ["web"]}'),
	pg_temp.ev('r9', 'ref', 'account.opened', '{"initialBalance": "12 euros"}'),
	'{"eventType": ""}', '[]']);
SELECT kind, errors, customer_id, event_id, event_type, partition, kafka_offset FROM profile_stream.dead_letters
	WHERE event_id IS NULL OR event_id LIKE 'r%' ORDER BY dead_letter_id;
SELECT convert_from(value, 'UTF8') FROM profile_stream.dead_letters WHERE event_id = 'r1';
SELECT count(*) FROM profile_stream.materialized_profiles WHERE customer_id = 'ref';
-- 38 digits are exact
SELECT profile_stream.apply_events(ARRAY[
	pg_temp.ev('b1', 'big', 'transaction.completed', '{"amount": 99999999999999999999999999999999999999}'),
	pg_temp.ev('b2', 'big', 'transaction.completed', '{"amount": 0.00000000000000000000000000000000000001}'),
	pg_temp.ev('b3', 'big', 'account.opened', '{"initialBalance": "12345678901234567890.123456789012345678"}')]);
SELECT profile_stream.metric_value('big', 'total_transaction_value_30d', '2026-01-11Z'), total_balance
	FROM profile_stream.materialized_profiles WHERE customer_id = 'big';
-- the lock an application may take
BEGIN;
SELECT profile_stream.apply_event(pg_temp.ev('l1', 'ada', 'noop'));
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid = 5;
SELECT profile_stream.try_lock_customer('ada'), profile_stream.lock_customer('ada');
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid = 5;
SELECT profile_stream.lock_customer('bob');
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid = 5;
SELECT profile_stream.try_lock_customer('');
ROLLBACK;
CREATE ROLE regress_ps_nobody;
GRANT USAGE ON SCHEMA profile_stream TO regress_ps_nobody;
SET ROLE regress_ps_nobody;
SELECT profile_stream.lock_customer('ada');
SELECT profile_stream.try_lock_customer('ada');
RESET ROLE;
REVOKE USAGE ON SCHEMA profile_stream FROM regress_ps_nobody;
DROP ROLE regress_ps_nobody;
SELECT count(*) FROM profile_stream_internal.event_ids WHERE hash = profile_stream_internal.event_id_hash('l1');
-- rolled back with the caller's transaction; seen within it
BEGIN;
SELECT profile_stream.apply_event(pg_temp.ev('t1', 'tx', 'noop'));
SELECT profile_stream.apply_event(pg_temp.ev('t1', 'tx', 'noop'));
ROLLBACK;
SELECT profile_stream.get_profile('tx');
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
-- announced
LISTEN profile_updates;
SELECT profile_stream.apply_events('{}');
-- an event that comes late does not move the dates of the last transaction and login back
SELECT profile_stream.apply_events(ARRAY(SELECT jsonb_build_object('eventId', t || d, 'customerId', 'dates', 'eventType', t, 'timestamp', d, 'payload', '{"amount": 1, "channel": "web"}'::jsonb)
	FROM unnest('{transaction.completed,session.started}'::text[]) t, unnest('{2026-01-03T00:00:00Z,2026-01-05T00:00:00Z,2026-01-04T00:00:00Z}'::text[]) WITH ORDINALITY o(d, n) ORDER BY n));
SELECT last_transaction_at AT TIME ZONE 'UTC' AS last_transaction, last_login_at AT TIME ZONE 'UTC' AS last_login, updated_at AT TIME ZONE 'UTC' AS updated
	FROM profile_stream.materialized_profiles WHERE customer_id = 'dates';

-- clean up
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters, profile_stream_internal.window_chunks;
