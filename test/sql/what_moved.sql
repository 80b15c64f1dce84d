-- apply_event_returning(): outcome, version, and the metrics that the event moves
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE regress_returning_operator IN ROLE profile_stream_operator;
CREATE ROLE regress_returning_only;
BEGIN;
SELECT profile_stream.create_metric('spent_at_airports', 'transaction.completed', '10 days', '$.amount', 'sum', '$.place', 'airport');
SELECT profile_stream.create_metric('largest_order', 'order.placed', '10 days', '$.total', 'max');
CREATE FUNCTION pg_temp.give(id text, type text, payload jsonb, at timestamptz DEFAULT now(), version int DEFAULT 1) RETURNS TABLE (outcome text, version bigint, metrics jsonb)
	LANGUAGE sql AS $$
	SELECT * FROM profile_stream.apply_event_returning(jsonb_build_object('eventId', id, 'customerId', 'ret', 'eventType', type, 'payload', payload, 'timestamp', at, 'schemaVersion', version)) $$;
SELECT * FROM pg_temp.give('1', 'transaction.completed', '{"amount": 10}');
SELECT * FROM pg_temp.give('2', 'transaction.completed', '{"amount": 2.5, "place": "airport"}');
-- a duplicate is told what the first one was told
SELECT * FROM pg_temp.give('2', 'transaction.completed', '{"amount": 2.5, "place": "airport"}');
SELECT * FROM pg_temp.give('3', 'session.started', '{}');
SELECT * FROM pg_temp.give('4', 'support.ticket.created', '{}');
SELECT * FROM pg_temp.give('5', 'order.placed', '{"total": 7}');
SELECT * FROM pg_temp.give('6', 'order.placed', '{}');
SELECT * FROM pg_temp.give('7', 'seen', '{}');
-- an event of tomorrow's clock counts, one that is older than the window does not
SELECT * FROM pg_temp.give('8', 'transaction.completed', '{"amount": 100}', now() + interval '30 min');
SELECT * FROM pg_temp.give('9', 'transaction.completed', '{"amount": 1000}', now() - interval '40 days');
-- more samples than a chunk has
SELECT count(DISTINCT g.metrics) = 100 AS each_counts, max((g.metrics ->> 'login_count_7d')::int) AS logins
FROM generate_series(1, 100) i CROSS JOIN LATERAL pg_temp.give('login' || i, 'session.started', '{}') g;
-- what is refused has neither
SELECT * FROM pg_temp.give('10', 'transaction.completed', '{}');
SELECT * FROM pg_temp.give('11', 'seen', '{}', NULL);
SELECT (profile_stream.forget_customer('ret', true)).profiles;
SELECT * FROM pg_temp.give('12', 'seen', '{}');
SELECT profile_stream.unblock_customer('ret');
-- an old version, which an upcaster converts
CREATE FUNCTION public.returning_upcaster(event jsonb) RETURNS jsonb LANGUAGE sql RETURN jsonb_build_object('total', event -> 'payload' -> 'sum');
SELECT profile_stream.register_upcaster('order.placed', 1, 'public.returning_upcaster(jsonb)');
SELECT * FROM pg_temp.give('13', 'order.placed', '{"sum": 8}');
SELECT * FROM pg_temp.give('14', 'order.placed', '{"total": 9}', version => 2);
-- the caller's rights: row security, and a role that may only apply
ALTER TABLE profile_stream.materialized_profiles ENABLE ROW LEVEL SECURITY;
SET LOCAL ROLE regress_returning_operator;
SELECT * FROM profile_stream.apply_event_returning(jsonb_build_object('eventId', '15', 'customerId', 'ret', 'eventType', 'seen', 'timestamp', now()));
RESET ROLE;
ALTER TABLE profile_stream.materialized_profiles DISABLE ROW LEVEL SECURITY;
GRANT USAGE ON SCHEMA profile_stream TO regress_returning_only;
GRANT EXECUTE ON FUNCTION profile_stream.apply_event_returning TO regress_returning_only;
SET LOCAL ROLE regress_returning_only;
SELECT * FROM profile_stream.apply_event_returning(jsonb_build_object('eventId', '16', 'customerId', 'ret', 'eventType', 'seen', 'timestamp', now()));
ROLLBACK;
DROP ROLE regress_returning_operator, regress_returning_only;
