-- backfill(): events of a query, in the order of their time, each once
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set VERBOSITY default
SET client_min_messages = error;
SELECT profile_stream.create_stream('crm', bootstrap_servers => '127.0.0.1:1', topic => 'events');
SELECT profile_stream.pause_stream('crm');
CREATE TABLE public.old_events (event_id bigint, customer uuid, kind text, at timestamptz, body jsonb);
INSERT INTO public.old_events SELECT n, ('00000000-0000-0000-0000-0000000000' || lpad((n % 10)::text, 2, '0'))::uuid,
	(ARRAY['transaction.completed', 'session.started', 'account.opened'])[1 + n % 3], '2026-01-01Z'::timestamptz + (101 - n) * interval '1 minute',
	CASE WHEN n % 3 = 0 THEN jsonb_build_object('amount', n) END FROM generate_series(1, 100) n;
CREATE VIEW public.events_to_fill AS SELECT event_id, customer AS customer_id, kind AS event_type, at AS event_time, body AS payload FROM public.old_events;
CALL profile_stream.backfill('crm', 'SELECT * FROM public.events_to_fill -- all', 7);
SELECT stream, name, state, rows_done, applied, duplicates, dead, skipped, position, finished_at IS NOT NULL AS finished, pid, error, hint FROM profile_stream.stat_backfills;
SELECT count(*), sum(version) AS events, min(updated_at), max(updated_at) FROM profile_stream.profiles;
-- the order is that of the time: updated_at is never set back
SELECT count(*) FROM profile_stream.materialized_profiles WHERE updated_at <> watermark;
-- called again it has nothing to do; new rows behind its position count, older ones do not
CALL profile_stream.backfill('crm', 'SELECT * FROM public.events_to_fill -- all');
SELECT rows_done FROM profile_stream.stat_backfills;
INSERT INTO public.old_events VALUES (101, '00000000-0000-0000-0000-000000000001', 'a', '2026-02-01Z'), (102, '00000000-0000-0000-0000-000000000001', 'a', '2025-02-01Z');
CALL profile_stream.backfill('crm', 'SELECT * FROM public.events_to_fill -- all');
SELECT rows_done, applied, duplicates FROM profile_stream.stat_backfills;
-- another query, under the same name and another one; the same events are duplicates
CALL profile_stream.backfill('crm', 'SELECT * FROM public.events_to_fill');
CALL profile_stream.backfill('crm', 'SELECT * FROM public.events_to_fill', name => 'again');
SELECT name, rows_done, applied, duplicates FROM profile_stream.stat_backfills ORDER BY 1;
-- events as jsonb; bad rows are dead letters
CREATE TABLE public.old_json (event jsonb);
INSERT INTO public.old_json VALUES ('{"eventId": "j1", "customerId": "ada", "eventType": "account.opened", "timestamp": "2026-01-01T00:00:00Z", "payload": {"initialBalance": 5}}'),
	('{"eventId": "j2", "customerId": "ada", "eventType": "account.opened", "timestamp": 1767225601000}'), (NULL), ('{"eventId": "j3", "customerId": "ada"}'), ('7'),
	('{"eventId": "j4", "customerId": "ada", "eventType": "transaction.completed", "timestamp": "2026-01-01T00:00:00Z", "payload": {}}'),
	('{"eventId": "j5", "customerId": "ada", "eventType": "profile.seeded", "timestamp": "2026-01-02T00:00:00Z", "payload": {"firstName": "Ada", "segment": "loyal"}}');
CALL profile_stream.backfill('crm', 'SELECT event FROM public.old_json', batch => 1, name => 'json');
SELECT rows_done, applied, duplicates, dead, skipped, position FROM profile_stream.stat_backfills WHERE name = 'json';
SELECT first_name, segment, account_count, total_balance, version FROM profile_stream.profiles WHERE customer_id = 'ada';
SELECT stream, topic, partition, kind, errors, customer_id, event_id, headers, event ->> 'eventId' AS id FROM profile_stream.dead_letters ORDER BY event_id NULLS FIRST, errors;
-- repaired as any other, also where the stream has another format
SELECT profile_stream.alter_stream('crm', format => 'custom', field_map => '{"eventId": "$.id", "customerId": "$.who", "eventType": "$.what", "timestamp": "$.at"}');
SELECT applied, failed FROM profile_stream.retry_dead_letters(stream => 'crm', event_type => 'transaction.completed', patch => '{"payload": {"amount": 1}}');
SELECT event_id, errors FROM profile_stream.dead_letters ORDER BY event_id NULLS FIRST, errors;
SELECT profile_stream.discard_dead_letters(stream => 'crm');
SELECT profile_stream.alter_stream('crm', format => 'profile_event', field_map => '{}');
-- rows of one time, id and customer: each once, however the batches lie
CREATE TABLE public.ties (event_id text, customer_id text, event_type text, event_time timestamptz, source text, schema_version int);
INSERT INTO public.ties SELECT 'same', c, 'tied', '2026-03-01Z', 'old', 1 FROM unnest('{t1,t2,t3}'::text[]) c, generate_series(1, 3);
INSERT INTO public.ties SELECT NULL, NULL, NULL, NULL, 'old' || n, NULL FROM generate_series(1, 5) n;
CALL profile_stream.backfill('crm', 'SELECT * FROM public.ties', batch => 2, name => 'ties');
SELECT rows_done, applied, duplicates, dead FROM profile_stream.stat_backfills WHERE name = 'ties';
SELECT profile_stream.discard_dead_letters();
-- what fails leaves what is committed, says why, and goes on
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.customer_id = 'r5' THEN RAISE EXCEPTION 'not r5'; END IF; RETURN NEW; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON profile_stream.materialized_profiles FOR EACH ROW EXECUTE FUNCTION public.refuse();
CREATE TABLE public.few AS SELECT 'r' || n AS event_id, 'r' || n AS customer_id, 'a' AS event_type, '2026-01-01Z'::timestamptz + n * interval '1 s' AS event_time FROM generate_series(1, 9) n;
\set VERBOSITY terse
CALL profile_stream.backfill('crm', 'SELECT * FROM public.few', batch => 2, name => 'few');
\set VERBOSITY default
SELECT state, rows_done, applied, error, hint, pid FROM profile_stream.stat_backfills WHERE name = 'few';
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
DROP TRIGGER refuse ON profile_stream.materialized_profiles;
CALL profile_stream.backfill('crm', 'SELECT * FROM public.few', batch => 2, name => 'few');
SELECT state, rows_done, applied, error, hint FROM profile_stream.stat_backfills WHERE name = 'few';
CALL profile_stream.backfill('crm', 'SELECT event_id, customer_id, event_type, event_time + (1 / (event_id <> ''r7'')::int) * interval ''0'' AS event_time FROM public.few', name => 'raises');
SELECT state, rows_done, error FROM profile_stream.stat_backfills WHERE name = 'raises';
-- a call that goes on finds the same rows, whatever the settings of its session are
CREATE TABLE public.naive (id int, at timestamp, amount float8, raw bytea);
INSERT INTO public.naive VALUES (1, '2026-01-05 12:00', 0.1234567890123, '\xff');
CREATE VIEW public.naive_events AS SELECT id AS event_id, 'naive' AS customer_id, 'kept' AS event_type, at::timestamptz AS event_time,
	jsonb_build_object('id', id, 'at', at::timestamptz, 'day', at::date::text, 'amount', amount, 'raw', raw, 'took', interval '90 s') AS payload FROM public.naive;
CREATE FUNCTION public.keep(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql RETURN jsonb_build_object('attributes', jsonb_build_object(event ->> 'eventId', event -> 'payload'));
SELECT profile_stream.register_handler('kept', 'public.keep(jsonb,jsonb)');
SET timezone = 'America/Los_Angeles';
CALL profile_stream.backfill('crm', 'SELECT * FROM public.naive_events', name => 'naive');
INSERT INTO public.naive SELECT 2, at + '1 hour', amount, raw FROM public.naive;
SET timezone = 'Europe/Vienna';
SET datestyle = 'German, DMY';
SET intervalstyle = 'iso_8601';
SET extra_float_digits = -10;
SET bytea_output = 'escape';
CALL profile_stream.backfill('crm', 'SELECT * FROM public.naive_events', name => 'naive');
RESET extra_float_digits;
RESET bytea_output;
RESET intervalstyle;
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SELECT rows_done, applied, position FROM profile_stream.stat_backfills WHERE name = 'naive';
SELECT jsonb_pretty(attributes) FROM profile_stream.profiles WHERE customer_id = 'naive';
SELECT profile_stream.unregister_handler('kept', 'public.keep(jsonb,jsonb)');
-- queries that are none
\set VERBOSITY terse
CALL profile_stream.backfill('crm', 'SELECT 1) AS q; DROP TABLE public.few; --', name => 'x');
CALL profile_stream.backfill('crm', 'DELETE FROM public.few RETURNING *', name => 'x');
CALL profile_stream.backfill('crm', 'SELECT * INTO public.thief FROM public.few', name => 'x');
CALL profile_stream.backfill('crm', 'SELECT * FROM public.few FOR UPDATE', name => 'x');
CALL profile_stream.backfill('crm', 'WITH gone AS (DELETE FROM public.few RETURNING *) SELECT * FROM gone', name => 'x');
CALL profile_stream.backfill('crm', 'SELECT * FROM public.few /*', name => 'x');
CALL profile_stream.backfill('crm', '', name => 'x');
CALL profile_stream.backfill('crm', NULL, name => 'x');
CALL profile_stream.backfill('crm', 'SELECT * FROM few', name => 'x1');
CALL profile_stream.backfill('crm', 'SELECT event_id, customer_id, event_type FROM public.few', name => 'x2');
CALL profile_stream.backfill('crm', 'SELECT *, 1 AS amount FROM public.few', name => 'x3');
CALL profile_stream.backfill('crm', 'SELECT *, event_id FROM public.few', name => 'x4');
CALL profile_stream.backfill('crm', 'SELECT event_id, customer_id, event_type, event_time::timestamp FROM public.few', name => 'x5');
CALL profile_stream.backfill('crm', 'SELECT *, ''{}'' AS payload FROM public.few', name => 'x6');
CALL profile_stream.backfill('crm', 'SELECT * FROM public.few', batch => 0);
CALL profile_stream.backfill('crm', 'SELECT * FROM public.few', name => NULL);
CALL profile_stream.backfill('none', 'SELECT * FROM public.few');
SELECT name, state, error FROM profile_stream.stat_backfills WHERE name LIKE 'x%' ORDER BY 1;
-- while nothing is done another query takes the place of a wrong one
CALL profile_stream.backfill('crm', 'SELECT * FROM public.few', name => 'x2');
SELECT name, state, duplicates FROM profile_stream.stat_backfills WHERE name = 'x2';
SELECT count(*) AS tables FROM pg_class WHERE relname IN ('few', 'thief');
BEGIN;
CALL profile_stream.backfill('crm', 'SELECT * FROM public.few');
ROLLBACK;
SET default_transaction_isolation = 'serializable';
CALL profile_stream.backfill('crm', 'SELECT * FROM public.few', name => 'serializable');
RESET default_transaction_isolation;
SELECT state, duplicates FROM profile_stream.stat_backfills WHERE name = 'serializable';
-- rights: who calls has what the query reads; a function in it gains nothing
CREATE ROLE regress_filler IN ROLE profile_stream_operator;
CREATE ROLE regress_other IN ROLE profile_stream_operator;
CREATE SERVER regress_kafka FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER regress_kafka TO regress_filler;
SELECT profile_stream.create_stream('theirs', server => 'regress_kafka', topic => 'events');
SELECT profile_stream.pause_stream('theirs');
SELECT profile_stream.alter_stream('theirs', owner => 'regress_filler');
GRANT CREATE ON SCHEMA public TO regress_filler;
SET ROLE regress_filler;
CALL profile_stream.backfill('crm', 'SELECT * FROM public.few');
CALL profile_stream.backfill('theirs', 'SELECT * FROM public.few', name => 'denied');
CREATE FUNCTION public.who_am_i() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN current_user;
END $$;
CREATE FUNCTION public.become() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'RESET ROLE';
	EXECUTE 'ALTER ROLE regress_filler SUPERUSER';
	RETURN 'gained';
END $$;
CREATE FUNCTION public.write() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	UPDATE profile_stream.materialized_profiles SET total_balance = 1000000;
	RETURN 'gained';
END $$;
CALL profile_stream.backfill('theirs', 'SELECT ''w'' AS event_id, ''who'' AS customer_id, public.who_am_i() AS event_type, ''2026-01-01Z''::timestamptz AS event_time', name => 'who');
CALL profile_stream.backfill('theirs', 'SELECT ''b'' AS event_id, ''who'' AS customer_id, public.become() AS event_type, ''2026-01-01Z''::timestamptz AS event_time', name => 'become');
CALL profile_stream.backfill('theirs', 'SELECT ''p'' AS event_id, ''who'' AS customer_id, public.write() AS event_type, ''2026-01-01Z''::timestamptz AS event_time', name => 'write');
CALL profile_stream.backfill('theirs', 'SELECT pg_catalog.pg_advisory_lock(1)::text AS event_id, ''c'' AS customer_id, ''t'' AS event_type, ''2026-01-01Z''::timestamptz AS event_time', name => 'lock');
SET ROLE regress_other;
CALL profile_stream.backfill('theirs', 'SELECT * FROM public.few', name => 'who');
SELECT profile_stream.drop_backfill('theirs', 'who');
RESET ROLE;
SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_filler';
SELECT event_counts FROM profile_stream.profiles WHERE customer_id = 'who';
SELECT name, state, owner, error FROM profile_stream.stat_backfills WHERE stream = 'theirs' ORDER BY 1;
SELECT kind, name, code, owner, state FROM profile_stream.stat_code WHERE name = 'who';
-- a query may have a password in it: who only reads does not see it
SET ROLE profile_stream_reader;
SELECT kind, name, code, owner, state FROM profile_stream.stat_code WHERE name = 'who';
RESET ROLE;
ANALYZE profile_stream_internal.backfills;
SET ROLE profile_stream_reader;
SELECT count(*) FILTER (WHERE attname = 'name') AS names, count(*) FILTER (WHERE attname = 'query') AS queries FROM pg_stats WHERE tablename = 'backfills';
RESET ROLE;
-- forgotten: the name is free; and a person who is forgotten is not in a position
SELECT profile_stream.drop_backfill('crm', 'again');
SELECT profile_stream.drop_backfill('crm', 'again');
SELECT last_customer_id, last_rows FROM profile_stream_internal.backfills WHERE name = 'few';
SELECT profiles FROM profile_stream.forget_customer('r9');
SELECT last_customer_id, last_event_id, last_rows FROM profile_stream_internal.backfills WHERE name = 'few';
CALL profile_stream.backfill('crm', 'SELECT * FROM public.few', name => 'few');
SELECT state, rows_done, duplicates FROM profile_stream.stat_backfills WHERE name = 'few';
SELECT profile_stream.drop_stream('crm');
SELECT count(*) FROM profile_stream.stat_backfills WHERE stream = 'crm';
SELECT profile_stream.drop_stream('theirs');
DROP SERVER regress_kafka;
REVOKE CREATE ON SCHEMA public FROM regress_filler;
DROP FUNCTION public.who_am_i, public.become, public.write, public.refuse;
DROP TABLE public.few, public.ties, public.old_json, public.old_events CASCADE;
DROP ROLE regress_filler, regress_other;
TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.window_chunks, profile_stream_internal.dead_letters;
